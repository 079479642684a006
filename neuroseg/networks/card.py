"""The model card: everything but the weights that prediction must know, and where the model comes from.

A card is checked as a whole when it is opened: what would end every block of a run is refused by key and value.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, field_validator, model_validator

from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.configuration import Section
from neuroseg.errors import InputError
from neuroseg.geometry import contact_channels

# The input windows of one forward pass together: 512^3. The first features of the light network alone take 8 GiB then.
MOST_WINDOW_VOXELS = 2**27
# Far beyond the longest links in use (27 voxels); the halo of every block grows with them.
_FARTHEST_OFFSET_VOXELS = 128
_MOST_OFFSETS = 64
_WIDEST_VOXELS = 65536


def _one_folder(name: str) -> str:
    """Return a name that is safe as part of a path and on a terminal."""
    if not name.strip() or name in (".", "..") or "/" in name or not name.isprintable():
        raise ValueError("a name of printable characters without / is expected")
    return name


Triple = tuple[int, int, int]
Name = Annotated[str, AfterValidator(_one_folder)]
# YAML's true is no 1, its "4" no 4.
_Width = Annotated[int, Field(strict=True, ge=1, le=_WIDEST_VOXELS)]
_Margin = Annotated[int, Field(strict=True, ge=0, le=_WIDEST_VOXELS)]
_Step = Annotated[int, Field(strict=True, ge=-_FARTHEST_OFFSET_VOXELS, le=_FARTHEST_OFFSET_VOXELS)]
_Edge = Annotated[float, Field(strict=True, ge=0.1, le=1e5, allow_inf_nan=False)]


class NetworkCard(Section):
    """The architecture's name and its parameters."""

    architecture: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class TileCard(Section):
    """How the volume is cut for the network: output tiles on a lattice at the origin, plus context on each side.

    `blend`: `centre` keeps the output tile of each window, `gaussian` blends the windows where they overlap.
    """

    output_voxels: tuple[_Width, _Width, _Width]
    context_voxels: tuple[_Margin, _Margin, _Margin]
    batch: _Width = 1
    blend: Literal["centre", "gaussian"] = "centre"

    @model_validator(mode="after")
    def _fits_into_memory(self) -> TileCard:
        window = [o + 2 * c for o, c in zip(self.output_voxels, self.context_voxels, strict=True)]
        found = self.batch * math.prod(window)
        if found > MOST_WINDOW_VOXELS:
            raise ValueError(
                f"batch {self.batch} of output_voxels {self.output_voxels} with context_voxels {self.context_voxels} "
                f"on each side is {found} voxels at a time; at most {MOST_WINDOW_VOXELS} (512^3) are expected"
            )
        return self


class SegmentationCard(Section):
    """What the validation sweep chose."""

    scoring: str = "mean"
    threshold: float = Field(default=0.5, strict=True, ge=0.0, le=1.0, allow_inf_nan=False)

    @field_validator("scoring")
    @classmethod
    def _known(cls, scoring: str) -> str:
        try:
            parse_scoring(scoring)
        except InputError as error:
            raise ValueError(str(error)) from error
        return scoring


class TrainingCard(Section):
    """Where the weights come from; `command` as it was typed."""

    data: str = ""
    licence: str = ""
    configuration: str = ""
    seed: NonNegativeInt | None = None
    steps: NonNegativeInt | None = None
    command: str = ""


class Card(Section):
    """The whole card of a bundle."""

    name: Name
    description: str = ""
    network: NetworkCard
    offsets: Annotated[tuple[tuple[_Step, _Step, _Step], ...], Field(max_length=_MOST_OFFSETS)]
    voxel_size_nm: tuple[_Edge, _Edge, _Edge]
    # Raw is 8 bits: 255 brings it to [0, 1], 1 leaves it as it is.
    raw_scale: float = Field(default=255.0, strict=True, ge=1.0, le=65535.0, allow_inf_nan=False)
    tile: TileCard
    segmentation: SegmentationCard = SegmentationCard()
    training: TrainingCard = TrainingCard()
    scores: dict[str, Any] = Field(default_factory=dict)
    notes: str = ""

    @field_validator("offsets")
    @classmethod
    def _can_be_segmented(cls, offsets: tuple[Triple, ...]) -> tuple[Triple, ...]:
        try:
            contact_channels(offsets)
        except InputError as error:
            raise ValueError(str(error)) from error
        if (0, 0, 0) in offsets:
            raise ValueError("an offset links two voxels; (0, 0, 0) links a voxel to itself")
        return offsets
