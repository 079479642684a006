"""The model card: everything that prediction needs except the weights, and the origin of the model.

A card is validated when it is opened. A value that would make every block fail is refused, with its key.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, field_validator, model_validator

from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.configuration import Section
from neuroseg.errors import InputError
from neuroseg.geometry import contact_channels
from neuroseg.networks.windows import MOST_WINDOW_VOXELS, WIDEST_VOXELS

# Offsets in use reach 27 voxels at most. The halo of each block grows with the offsets.
_FARTHEST_OFFSET_VOXELS = 128
_MOST_OFFSETS = 64


def _one_folder(name: str) -> str:
    """Return the name if it is safe in a path and on a terminal. Raises ValueError otherwise."""
    if not name.strip() or name in (".", "..") or "/" in name or not name.isprintable():
        raise ValueError("expected a name of printable characters without /")
    return name


Triple = tuple[int, int, int]
Name = Annotated[str, AfterValidator(_one_folder)]
# Strict: true in YAML is not accepted as 1, and "4" is not accepted as 4.
_Width = Annotated[int, Field(strict=True, ge=1, le=WIDEST_VOXELS)]
_Margin = Annotated[int, Field(strict=True, ge=0, le=WIDEST_VOXELS)]
_Step = Annotated[int, Field(strict=True, ge=-_FARTHEST_OFFSET_VOXELS, le=_FARTHEST_OFFSET_VOXELS)]
_Edge = Annotated[float, Field(strict=True, ge=0.1, le=1e5, allow_inf_nan=False)]


class NetworkCard(Section):
    """The network's architecture and its parameters."""

    architecture: str = Field(description="Name of the architecture: light, superhuman or mala.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Parameters of the architecture.")


class TileCard(Section):
    """Windows of the network: output tiles on a lattice at the origin, plus context on each side."""

    output_voxels: tuple[_Width, _Width, _Width] = Field(description="Size of an output tile (z, y, x).")
    context_voxels: tuple[_Margin, _Margin, _Margin] = Field(
        description="Context on each side of an output tile (z, y, x)."
    )
    batch: _Width = Field(default=1, description="Number of windows per forward pass.")
    blend: Literal["centre", "gaussian"] = Field(
        default="centre",
        description="`centre` keeps the output tile of each window. `gaussian` blends overlapping windows.",
    )

    @property
    def window_voxels(self) -> int:
        """Number of voxels of a window: an output tile and its context."""
        return math.prod(o + 2 * c for o, c in zip(self.output_voxels, self.context_voxels, strict=True))

    @property
    def computed_per_kept(self) -> float:
        """Voxels that the network computes for each voxel that is kept, inside a large block."""
        return self.window_voxels / math.prod(self.output_voxels)

    @model_validator(mode="after")
    def _fits_into_memory(self) -> TileCard:
        found = self.batch * self.window_voxels
        if found > MOST_WINDOW_VOXELS:
            raise ValueError(
                f"batch {self.batch} with output_voxels {self.output_voxels} and context_voxels {self.context_voxels} "
                f"needs {found} voxels per forward pass; at most {MOST_WINDOW_VOXELS} (512^3) are allowed"
            )
        return self


class SegmentationCard(Section):
    """Default scoring and threshold of the model, chosen on its validation volume."""

    scoring: str = Field(default="mean", description="Scoring of edges, such as mean or quantile:50.")
    threshold: float = Field(
        default=0.5, strict=True, ge=0.0, le=1.0, allow_inf_nan=False, description="Merge threshold."
    )

    @field_validator("scoring")
    @classmethod
    def _known(cls, scoring: str) -> str:
        try:
            parse_scoring(scoring)
        except InputError as error:
            raise ValueError("; ".join(filter(None, (str(error.args[0]), error.hint)))) from error
        return scoring


class TrainingCard(Section):
    """Origin of the weights."""

    data: str = Field(default="", description="Training data.")
    licence: str = Field(default="", description="Licence of the training data.")
    configuration: str = Field(default="", description="Name of the training configuration.")
    seed: NonNegativeInt | None = Field(default=None, description="Random seed of the training.")
    steps: NonNegativeInt | None = Field(default=None, description="Number of training steps.")
    command: str = Field(default="", description="Command that started the training.")


class Card(Section):
    """The card of a bundle."""

    name: Name = Field(description="Name of the model.")
    description: str = Field(default="", description="One sentence about the model.")
    network: NetworkCard = Field(description="Architecture and parameters.")
    offsets: Annotated[tuple[tuple[_Step, _Step, _Step], ...], Field(max_length=_MOST_OFFSETS)] = Field(
        description="Offset (z, y, x) in voxels of each affinity channel."
    )
    voxel_size_nm: tuple[_Edge, _Edge, _Edge] = Field(description="Voxel size of the training data (z, y, x).")
    raw_scale: float = Field(
        default=255.0, strict=True, ge=1.0, le=65535.0, allow_inf_nan=False,
        description="The network's input is raw divided by this number. 255 maps 8-bit raw to [0, 1].",
    )  # fmt: skip
    tile: TileCard = Field(description="Windows of the network.")
    gpu_tile: TileCard | None = Field(default=None, description="Windows of the network on GPUs. Default: `tile`.")
    segmentation: SegmentationCard = Field(default=SegmentationCard(), description="Default scoring and threshold.")
    training: TrainingCard = Field(default=TrainingCard(), description="Origin of the weights.")
    scores: dict[str, Any] = Field(default_factory=dict, description="Scores on the validation volume.")
    notes: str = Field(default="", description="Remarks for users of the model.")

    @field_validator("offsets")
    @classmethod
    def _can_be_segmented(cls, offsets: tuple[Triple, ...]) -> tuple[Triple, ...]:
        try:
            contact_channels(offsets)
        except InputError as error:
            raise ValueError("; ".join(filter(None, (str(error.args[0]), error.hint)))) from error
        if (0, 0, 0) in offsets:
            raise ValueError("offset (0, 0, 0) links a voxel to itself; an offset must link two voxels")
        return offsets
