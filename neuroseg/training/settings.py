"""The training configuration: all sections and keys of configs/*.yaml. The section `data` is in data_settings.py."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.configuration import Section
from neuroseg.errors import InputError
from neuroseg.networks.card import Name
from neuroseg.training.data.affinity_targets import Sides
from neuroseg.training.data_settings import DataSettings, Margins, Positive
from neuroseg.training.perturbations.draw import PUBLISHED, check_names

Offset = tuple[int, int, int]
Widths = tuple[PositiveInt, PositiveInt, PositiveInt]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class NetworkSettings(Section):
    """The network's architecture, its parameters and its initial weights."""

    architecture: str = Field(default="light", description="Name of the architecture: light, superhuman or mala.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Parameters of the architecture, such as widths."
    )
    encoder: str | None = Field(
        default=None, description="Folder of a pre-training. The network starts with its encoder."
    )
    bundle: str | None = Field(
        default=None, description="Bundled model or folder of a bundle. The network starts with all its weights."
    )

    @model_validator(mode="after")
    def _begins_once(self) -> NetworkSettings:
        if self.encoder is not None and self.bundle is not None:
            raise ValueError("encoder and bundle are both given; remove one of them")
        return self


class TargetSettings(Section):
    """Targets of the network: affinities, and auxiliary channels that are dropped after training."""

    offsets: tuple[Offset, ...] = Field(
        default=((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
        min_length=1,
        description="Offset (z, y, x) in voxels of each affinity channel.",
    )
    auxiliary_offsets: tuple[Offset, ...] = Field(
        default=(), description="Offsets of auxiliary affinities. They improve training; the bundle omits them."
    )
    auxiliary_weight: NotNegative = Field(default=0.5, description="Weight of the auxiliary affinities in the loss.")
    descriptor_sigma_nm: NotNegative = Field(
        default=0.0, description="Radius (sigma) of auxiliary shape descriptors. 0 disables them."
    )
    descriptor_weight: NotNegative = Field(default=1.0, description="Weight of the shape descriptors in the loss.")
    border_axes: tuple[Literal[0, 1, 2], ...] = Field(
        default=(0, 1, 2),
        description="Axes (0 z, 1 y, 2 x) along which touching objects are separated by a border of label 0.",
    )
    border_dilations: NonNegativeInt = Field(
        default=0, description="Number of times that the border grows by one voxel on each side."
    )
    border_sides: Sides = Field(
        default="both",
        description="`both` sets the voxel on each side of a border to 0. `upper` sets only the second one, as the "
        "published code does.",
    )
    balanced: bool = Field(
        default=True,
        description="Give both classes the same weight in the cross entropy. If false, each voxel has the same weight, "
        "as in the published training.",
    )


class PerturbationSettings(Section):
    """Perturbations of crops. Exactly one is drawn at random for each crop."""

    names: tuple[str, ...] = Field(default=PUBLISHED, description="Names of the perturbations to draw from.")
    strength: float = Field(
        default=1.0, ge=0.0, le=1.0, description="Strength, from 0 (no change) to 1 (the published ranges)."
    )

    @field_validator("names")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_names(names)
        return names


class AugmentationSettings(Section):
    """Probabilities (0 to 1) and strengths of the augmentations of labelled patches."""

    orientations: Literal["all", "in_plane"] = Field(
        default="all",
        description="Random orientations: `all` 48 of a cube, or the 16 `in_plane` that keep the z axis.",
    )
    deform: Probability = Field(default=0.5, description="Probability of a rotation, scaling and elastic deformation.")
    scale_range: tuple[Positive, Positive] = Field(
        default=(0.8, 1.25), description="Smallest and largest scale of a deformation."
    )
    rotation_degrees: NotNegative = Field(
        default=45.0, description="Largest rotation of a deformation. The axis is z if orientations is in_plane."
    )
    elastic_spacing_voxels: Positive = Field(
        default=24.0, description="Distance between the control points of an elastic deformation."
    )
    elastic_sigma_voxels: NotNegative = Field(
        default=2.0, description="Largest standard deviation of the displacement of the control points."
    )
    intensity: Probability = Field(default=0.8, description="Probability of a new contrast, brightness and gamma.")
    sections: Probability = Field(
        default=0.2, description="Probability of a new contrast and brightness for each section."
    )
    noise: Probability = Field(default=0.4, description="Probability of Gaussian noise.")
    blur: Probability = Field(default=0.2, description="Probability of a Gaussian blur.")
    missing: Probability = Field(default=0.1, description="Probability of one black section.")
    perturbations: PerturbationSettings = Field(
        default=PerturbationSettings(names=()),
        description="Perturbations. One of them is applied after the augmentations.",
    )

    @field_validator("scale_range")
    @classmethod
    def _rises(cls, scale_range: tuple[float, float]) -> tuple[float, float]:
        if scale_range[0] > scale_range[1]:
            raise ValueError("the smallest scale must come first, then the largest")
        return scale_range


class ConsistencySettings(Section):
    """Consistency learning on volumes without labels.

    The network learns to predict for a perturbed crop what a teacher predicts for the clean crop. With `published`, the
    training keeps these properties of the published code, for comparison:

    - Targets do not move with the tissue, and crops without labels are not turned.
    - The teacher of averaged weights uses the normalisation statistics of its own passes, not their average.
    - Perturbed and labelled crops are normalised together, and both change the running statistics.
    - With `weight_sharing`, the weights are validated and exported, not their average.
    """

    teacher: Literal["weight_sharing", "ema"] = Field(
        description="`weight_sharing`: the network itself. `ema`: its averaged weights."
    )
    weight: float = Field(default=1.0, ge=0.0, description="Weight of the consistency loss.")
    begin_step: int = Field(
        default=0, ge=0, description="First step of consistency learning. Earlier steps use only labels."
    )
    ramp_steps: int = Field(
        default=0, ge=0, description="Number of steps over which the weight rises, as exp(-5 (1 - t)^2)."
    )
    confidence: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="Ignore voxels for which the teacher's affinity a is unclear: |2 a - 1| below this value.",
    )
    teacher_orientations: Literal[1, 2, 4] = Field(
        default=1,
        description="Number of orientations over which the teacher's prediction is averaged.",
    )
    perturbations: PerturbationSettings = Field(
        default=PerturbationSettings(), description="Perturbations of the crops without labels."
    )
    published: bool = Field(
        default=False, description="Train as the published code does, for comparison. Requires begin_step 0."
    )

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_name(cls, content: Any) -> Any:
        """Accept the short form `consistency: ema`."""
        return {"teacher": content} if isinstance(content, str) else content

    @model_validator(mode="after")
    def _published_begins_with_the_first_step(self) -> ConsistencySettings:
        if self.published and self.teacher_orientations > 1:
            raise ValueError("published training does not turn crops; teacher_orientations must be 1")
        if self.published and (self.begin_step or not self.weight):
            raise ValueError(
                "published training uses the teacher from the first step; begin_step must be 0 and weight above 0"
            )
        return self


Precision = Literal["bfloat16", "float32"]


class OptimiserSettings(Section):
    """The optimiser and the size of its steps."""

    algorithm: Literal["adamw", "adam"] = Field(
        default="adamw", description="`adamw`: Adam with decoupled weight decay. `adam`: Adam with L2 regularisation."
    )
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="Learning rate after the warm-up: cosine decay to 0, or constant."
    )
    epsilon: Positive = Field(default=1e-8, description="Epsilon of Adam.")
    amsgrad: bool = Field(default=False, description="Use the AMSGrad variant of Adam.")
    steps: int = Field(ge=1, description="Number of training steps.")
    batch: int = Field(default=2, ge=1, description="Number of patches per step and process.")
    patch_voxels: Widths = Field(description="Size of a patch (z, y, x).")
    learning_rate: Positive = Field(default=1e-3, description="Highest learning rate.")
    warm_up_steps: NonNegativeInt = Field(
        default=200, description="Number of steps over which the learning rate rises linearly."
    )
    weight_decay: NotNegative = Field(default=1e-4, description="Weight decay.")
    gradient_norm: float | None = Field(
        default=5.0, gt=0, description="Largest norm of the gradient. Larger gradients are scaled down. null: no limit."
    )
    precision: Precision = Field(
        default="bfloat16", description="Training precision. Weights and optimiser state are always float32."
    )


class TrainingOptimiserSettings(OptimiserSettings):
    """The optimiser, the margin of a patch, and the average of the weights."""

    margin_voxels: Margins = Field(
        default=(0, 0, 0), description="Voxels (z, y, x) on each side of a patch that the loss ignores."
    )
    average_decay: Probability = Field(
        default=0.998, description="Decay per step of the exponential average of the weights."
    )

    @model_validator(mode="after")
    def _leaves_something(self) -> TrainingOptimiserSettings:
        if any(2 * margin >= width for margin, width in zip(self.margin_voxels, self.patch_voxels, strict=True)):
            raise ValueError(
                f"margin_voxels {self.margin_voxels} on each side leave no voxel of patch_voxels {self.patch_voxels}"
            )
        return self


class ValidationSettings(Section):
    """When and how to segment and score the validation volume."""

    every_steps: int = Field(default=500, ge=1, description="Number of steps between validations.")
    surround_voxels: Margins = Field(
        default=(0, 0, 0),
        description="Raw around the region, in voxels (z, y, x) on each side, that is segmented but not scored. Use it "
        "for thin regions: parts of an object may be connected outside the region.",
    )
    statistics_samples: int = Field(
        default=48,
        ge=0,
        description="Number of labelled samples used to recompute the batch statistics of the averaged network. 0: use "
        "the average of the training statistics.",
    )
    scorings: tuple[str, ...] = Field(
        default=("mean", "quantile:50", "quantile:25"),
        min_length=1,
        description="Scorings to compare. The best one becomes the model's default.",
    )
    tile_voxels: Widths = Field(default=(64, 64, 64), description="Size of an output tile (z, y, x).")
    context_voxels: Margins = Field(default=(32, 32, 32), description="Context on each side of a tile (z, y, x).")
    blend: Literal["centre", "gaussian"] = Field(
        default="centre",
        description="`centre` keeps the output tile of each window. `gaussian` blends overlapping windows.",
    )

    @field_validator("scorings")
    @classmethod
    def _known(cls, scorings: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse an unknown scoring before training begins."""
        for text in scorings:
            try:
                parse_scoring(text)
            except InputError as error:
                raise ValueError("; ".join(filter(None, (str(error.args[0]), error.hint)))) from error
        return scorings


class TrainingSettings(Section):
    """A training configuration."""

    name: Name = Field(description="Name of the model.")
    description: str = Field(default="", description="One sentence about the model, for its card.")
    licence: str = Field(default="", description="Licence of the training data, for the model's card.")
    seed: NonNegativeInt = Field(default=1, description="Random seed of the training.")
    loader_workers: NonNegativeInt = Field(
        default=1, description="Number of processes that prepare samples. 0: prepare them in the training process."
    )
    data: DataSettings = Field(description="The volumes.")
    network: NetworkSettings = Field(default=NetworkSettings(), description="The network.")
    targets: TargetSettings = Field(default=TargetSettings(), description="What the network learns to predict.")
    augmentation: AugmentationSettings = Field(
        default=AugmentationSettings(), description="Random changes of labelled patches."
    )
    consistency: ConsistencySettings | None = Field(
        default=None, description="Consistency learning. Requires data.unlabelled. A teacher's name is enough."
    )
    optimiser: TrainingOptimiserSettings = Field(description="The optimiser and the size of its steps.")
    validation: ValidationSettings = Field(default=ValidationSettings(), description="When and how to validate.")

    @model_validator(mode="after")
    def _has_what_consistency_needs(self) -> TrainingSettings:
        if (self.consistency is None) != (not self.data.unlabelled):
            raise ValueError("consistency and data.unlabelled require each other; give both or neither")
        for volume in self.data.training:
            if any(
                around >= width
                for around, width in zip(volume.surround_voxels, self.optimiser.patch_voxels, strict=True)
            ):
                raise ValueError(
                    f"surround_voxels {volume.surround_voxels} must be smaller than patch_voxels "
                    f"{self.optimiser.patch_voxels}; otherwise some patches contain no label"
                )
        used = [self.augmentation.perturbations] + ([self.consistency.perturbations] if self.consistency else [])
        patch = self.optimiser.patch_voxels
        if self.consistency and self.consistency.teacher_orientations > 1 and patch[1] != patch[2]:
            raise ValueError(f"teacher_orientations requires equal y and x in patch_voxels, found {patch}; set it to 1")
        if any("rotate" in each.names for each in used) and patch[1] != patch[2]:
            raise ValueError(f"rotate requires equal y and x in patch_voxels, found {patch}; remove rotate")
        return self
