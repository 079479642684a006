"""The model card: everything but the weights that prediction must know, and where the model comes from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from neuroseg.configuration import Section

Triple = tuple[int, int, int]


class NetworkCard(Section):
    """The architecture's name and its parameters."""

    architecture: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class TileCard(Section):
    """How the volume is cut for the network: output tiles on a lattice at the origin, plus context on each side.

    `blend`: `centre` keeps the output tile of each window, `gaussian` blends the windows where they overlap.
    """

    output_voxels: Triple
    context_voxels: Triple
    batch: int = 1
    blend: Literal["centre", "gaussian"] = "centre"


class SegmentationCard(Section):
    """What the validation sweep chose."""

    scoring: str = "mean"
    threshold: float = 0.5


class TrainingCard(Section):
    """Where the weights come from."""

    data: str = ""
    licence: str = ""
    configuration: str = ""
    seed: int | None = None
    steps: int | None = None
    command: str = ""


class Card(Section):
    """The whole card of a bundle."""

    name: str
    description: str = ""
    network: NetworkCard
    offsets: tuple[Triple, ...]
    voxel_size_nm: tuple[float, float, float]
    raw_scale: float = 255.0
    tile: TileCard
    segmentation: SegmentationCard = SegmentationCard()
    training: TrainingCard = TrainingCard()
    scores: dict[str, Any] = Field(default_factory=dict)
    notes: str = ""
