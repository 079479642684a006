"""The training configuration: what configs/*.yaml may say."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.configuration import Section
from neuroseg.errors import InputError
from neuroseg.networks.card import Name
from neuroseg.training.data.affinity_targets import Sides
from neuroseg.training.data.catalogue import catalogued
from neuroseg.training.perturbations.draw import PUBLISHED, check_names

Offset = tuple[int, int, int]
Widths = tuple[PositiveInt, PositiveInt, PositiveInt]
Margins = tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class VolumeSettings(Section):
    """One labelled volume, `file.h5:dataset` or a zarr array, and the part of it to use.

    As much raw as `surround_voxels` says on each side of that part, as far as the volume goes, is learnt from with it:
    patches deeper than a few labelled sections then show true tissue, whose labels do not count, instead of mirrored.
    `share` of a training's samples are cut from this volume; what is left is divided among those that have none, by
    their labelled voxels. `volume` names a public one (configs/data), whose addresses and voxel size hold where none
    are given.
    """

    volume: str | None = None
    raw: str
    labels: str
    region: str | None = None
    surround_voxels: Margins = (0, 0, 0)
    share: float | None = Field(default=None, gt=0.0, le=1.0)
    voxel_size_nm: tuple[Positive, Positive, Positive] | None = None

    @model_validator(mode="before")
    @classmethod
    def _catalogued(cls, content: Any) -> Any:
        return _with_catalogued(content, ("raw", "labels", "voxel_size_nm"))

    @model_validator(mode="after")
    def _labels_are_apart(self) -> VolumeSettings:
        if posixpath.normpath(self.raw) == posixpath.normpath(self.labels):
            raise ValueError(f"labels {self.labels} are the raw itself; give the address of its labels")
        return self


class UnlabelledSettings(Section):
    """One volume without labels, and the part of it to use; it is read crop by crop and may be of any size.

    `volume` names a public one (configs/data), whose address holds where none is given; `level` is that of a pyramid.
    """

    volume: str | None = None
    raw: str
    region: str | None = None
    level: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _catalogued(cls, content: Any) -> Any:
        return _with_catalogued(content, ("raw",))


def _with_catalogued(content: Any, keys: Sequence[str]) -> Any:
    """Return the mapping of a volume with what the catalogue says of `volume` where it says nothing itself."""
    if not isinstance(content, Mapping) or not content.get("volume"):
        return content
    known = catalogued(str(content["volume"])).model_dump()
    return {**{key: known[key] for key in keys if known[key] is not None}, **content}


class DataSettings(Section):
    """The volumes; relative paths are looked up in `folders`, in order, seen from the YAML's folder (places.py).

    Training never looks at `test`: `neuroseg validate` does.
    """

    folders: tuple[str, ...] = (".",)
    training: tuple[VolumeSettings, ...] = ()
    unlabelled: tuple[UnlabelledSettings, ...] = ()
    validation: VolumeSettings | None = None
    test: tuple[VolumeSettings, ...] = ()

    @model_validator(mode="after")
    def _shares_add_up(self) -> DataSettings:
        judged = [*self.test, *([self.validation] if self.validation else [])]
        if any(volume.share is not None for volume in judged):
            raise ValueError("share is of the samples that training is made of: leave it out of validation and test")
        given = [volume.share for volume in self.training if volume.share is not None]
        total, rest = sum(given), len(self.training) - len(given)
        if given and rest and total >= 1:
            raise ValueError(f"the shares of training volumes add up to {total:g}: none is left for {rest} without one")
        if given and not rest and not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"the shares of all training volumes add up to {total:g}, not to 1; leave one of them out")
        return self


class NetworkSettings(Section):
    """Which architecture, its parameters, and what it begins with.

    `encoder` is the folder of a pre-training, `bundle` a bundled model's name or a bundle's folder: all of its weights.
    """

    architecture: str = "light"
    parameters: dict[str, Any] = Field(default_factory=dict)
    encoder: str | None = None
    bundle: str | None = None

    @model_validator(mode="after")
    def _begins_once(self) -> NetworkSettings:
        if self.encoder is not None and self.bundle is not None:
            raise ValueError("a network begins with an encoder or with a bundle: leave out one of them")
        return self


class TargetSettings(Section):
    """What the network learns: affinities at `offsets`, and auxiliary channels that only training needs.

    `balanced`: both classes weigh the same in the cross entropy; the published training weighs every voxel alike.
    """

    offsets: tuple[Offset, ...] = Field(default=((-1, 0, 0), (0, -1, 0), (0, 0, -1)), min_length=1)
    auxiliary_offsets: tuple[Offset, ...] = ()
    auxiliary_weight: NotNegative = 0.5
    descriptor_sigma_nm: NotNegative = 0.0
    descriptor_weight: NotNegative = 1.0
    border_axes: tuple[Literal[0, 1, 2], ...] = (0, 1, 2)
    border_dilations: NonNegativeInt = 0
    border_sides: Sides = "both"
    balanced: bool = True


class PerturbationSettings(Section):
    """Which perturbations, of which exactly one is drawn for each crop, and how strong (1: the published ranges)."""

    names: tuple[str, ...] = PUBLISHED
    strength: float = Field(default=1.0, ge=0.0, le=1.0)

    @field_validator("names")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_names(names)
        return names


class AugmentationSettings(Section):
    """Probabilities (0 to 1) and strengths of the augmentations; one of `perturbations` follows them."""

    orientations: Literal["all", "in_plane"] = "all"
    deform: Probability = 0.5
    scale_range: tuple[Positive, Positive] = (0.8, 1.25)
    rotation_degrees: NotNegative = 45.0
    elastic_spacing_voxels: Positive = 24.0
    elastic_sigma_voxels: NotNegative = 2.0
    intensity: Probability = 0.8
    sections: Probability = 0.2
    noise: Probability = 0.4
    blur: Probability = 0.2
    missing: Probability = 0.1
    perturbations: PerturbationSettings = PerturbationSettings(names=())

    @field_validator("scale_range")
    @classmethod
    def _rises(cls, scale_range: tuple[float, float]) -> tuple[float, float]:
        if scale_range[0] > scale_range[1]:
            raise ValueError("the smallest scale comes first, then the largest")
        return scale_range


class ConsistencySettings(Section):
    """What a network says of a perturbed crop without labels shall be what a teacher says of the clean one.

    teacher: `weight_sharing` (the network itself) or `ema` (its averaged weights). Steps before `begin_step` learn from
    labels alone; from there on `weight` counts, or is ramped up over `ramp_steps` as exp(-5 (1 - t)^2). Voxels whose
    affinity the teacher holds for less clear than `confidence` (|2 a - 1|) do not count. The teacher says the mean of
    what it says of the clean crop in `teacher_orientations`, each a pass more. `published` leaves what the
    published code has as defects: targets are not moved with the tissue, crops without labels are not turned, an
    averaged teacher's normalisation is that of its own passes and no average, perturbed crops are normalised, and
    remembered in the running statistics, together with the labelled; a weight-sharing training validates and exports
    the weights themselves, not their average. It begins with the first step.
    """

    teacher: Literal["weight_sharing", "ema"]
    weight: float = Field(default=1.0, ge=0.0)
    begin_step: int = Field(default=0, ge=0)
    ramp_steps: int = Field(default=0, ge=0)
    confidence: float = Field(default=0.0, ge=0.0, lt=1.0)
    teacher_orientations: Literal[1, 2, 4] = 1
    perturbations: PerturbationSettings = PerturbationSettings()
    published: bool = False

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_name(cls, content: Any) -> Any:
        """`consistency: ema` says enough."""
        return {"teacher": content} if isinstance(content, str) else content

    @model_validator(mode="after")
    def _teaches_from_the_first_step_as_published(self) -> ConsistencySettings:
        if self.published and self.teacher_orientations > 1:
            raise ValueError("a published teacher sees crops as they lie: teacher_orientations must be 1")
        if self.published and (self.begin_step or not self.weight):
            raise ValueError(
                "a published teacher is normalised by its own passes: begin_step must be 0, weight above 0"
            )
        return self


Precision = Literal["bfloat16", "float32"]


class OptimiserSettings(Section):
    """Adam, its weight decay decoupled (`adamw`) or not, with warm-up and a cosine decay to zero or a constant rate.

    Gradients of a norm above `gradient_norm` are scaled down to it (none: they are left as they are). The network
    multiplies in `precision`; its weights and their moments are float32 in either.
    """

    algorithm: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["cosine", "constant"] = "cosine"
    epsilon: Positive = 1e-8
    amsgrad: bool = False
    steps: int = Field(ge=1)
    batch: int = Field(default=2, ge=1)
    patch_voxels: Widths
    learning_rate: Positive = 1e-3
    warm_up_steps: NonNegativeInt = 200
    weight_decay: NotNegative = 1e-4
    gradient_norm: float | None = Field(default=5.0, gt=0)
    precision: Precision = "bfloat16"


class TrainingOptimiserSettings(OptimiserSettings):
    """The same, the voxels at a patch's faces that do not count, and how slowly the weights' average follows them."""

    margin_voxels: Margins = (0, 0, 0)
    average_decay: Probability = 0.998

    @model_validator(mode="after")
    def _leaves_something(self) -> TrainingOptimiserSettings:
        if any(2 * margin >= width for margin, width in zip(self.margin_voxels, self.patch_voxels, strict=True)):
            raise ValueError(
                f"margin_voxels {self.margin_voxels} on each side leave nothing of patch_voxels {self.patch_voxels}"
            )
        return self


class ValidationSettings(Section):
    """How often to segment the validation volume, and with which scorings.

    `surround_voxels` on each side of the region are segmented with it, as far as the volume goes, but not scored: what
    holds an object together may lie beyond a thin region, and the best threshold of a thin region is too high.
    Before it is validated, the averaged network takes the statistics of its batch normalisation from
    `statistics_samples` labelled samples (0: it keeps the average of those it was trained with).
    """

    every_steps: int = Field(default=500, ge=1)
    surround_voxels: Margins = (0, 0, 0)
    statistics_samples: int = Field(default=48, ge=0)
    scorings: tuple[str, ...] = Field(default=("mean", "quantile:50", "quantile:25"), min_length=1)
    tile_voxels: Widths = (64, 64, 64)
    context_voxels: Margins = (32, 32, 32)
    blend: Literal["centre", "gaussian"] = "centre"

    @field_validator("scorings")
    @classmethod
    def _known(cls, scorings: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse an unknown scoring before training begins, not at its first validation."""
        for text in scorings:
            try:
                parse_scoring(text)
            except InputError as error:
                raise ValueError(str(error)) from error
        return scorings


class TrainingSettings(Section):
    """The whole of a training configuration."""

    name: Name
    description: str = ""
    licence: str = ""
    seed: NonNegativeInt = 1
    loader_workers: NonNegativeInt = 1
    data: DataSettings
    network: NetworkSettings = NetworkSettings()
    targets: TargetSettings = TargetSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    consistency: ConsistencySettings | None = None
    optimiser: TrainingOptimiserSettings
    validation: ValidationSettings = ValidationSettings()

    @model_validator(mode="after")
    def _has_what_consistency_needs(self) -> TrainingSettings:
        if (self.consistency is None) != (not self.data.unlabelled):
            raise ValueError("consistency and data.unlabelled go together: give both or neither")
        for volume in self.data.training:
            if any(
                around >= width
                for around, width in zip(volume.surround_voxels, self.optimiser.patch_voxels, strict=True)
            ):
                raise ValueError(
                    f"surround_voxels {volume.surround_voxels} reach past a patch: some would show no label"
                )
        used = [self.augmentation.perturbations] + ([self.consistency.perturbations] if self.consistency else [])
        patch = self.optimiser.patch_voxels
        if self.consistency and self.consistency.teacher_orientations > 1 and patch[1] != patch[2]:
            raise ValueError(f"teacher_orientations need patches as wide as high, found {patch}; leave them out")
        if any("rotate" in each.names for each in used) and patch[1] != patch[2]:
            raise ValueError(f"rotate needs patches as wide as high, found {patch}; leave it out")
        return self
