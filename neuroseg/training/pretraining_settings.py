"""The configuration of a pre-training, which trains an encoder on volumes without labels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, field_validator

from neuroseg.configuration import Section
from neuroseg.networks.card import Name
from neuroseg.training.data_settings import UnlabelledSettings
from neuroseg.training.perturbations.draw import TURNS
from neuroseg.training.settings import NetworkSettings, OptimiserSettings, PerturbationSettings


class PretrainingDataSettings(Section):
    """The volumes of a pre-training."""

    folders: tuple[str, ...] = Field(
        default=(".",),
        description="Folders to search for relative addresses, in order. Relative folders start at the folder of the "
        "YAML file.",
    )
    training: tuple[UnlabelledSettings, ...] = Field(min_length=1, description="Volumes to train on.")
    validation: UnlabelledSettings = Field(description="Volume for measuring the error.")


class PretrainingValidationSettings(Section):
    """When to measure the error on validation crops."""

    every_steps: int = Field(default=1000, ge=1, description="Number of steps between validations and saves.")


class PretrainingSettings(Section):
    """A pre-training configuration."""

    name: Name = Field(description="Name of the pre-training.")
    description: str = Field(default="", description="One sentence about the pre-training.")
    seed: NonNegativeInt = Field(default=1, description="Random seed of the pre-training.")
    loader_workers: NonNegativeInt = Field(
        default=1, description="Number of processes that prepare samples. 0: prepare them in the training process."
    )
    data: PretrainingDataSettings = Field(description="The volumes.")
    network: NetworkSettings = Field(
        default=NetworkSettings(), description="The network. Its encoder is trained; encoder and bundle must be unset."
    )
    orientations: Literal["all", "in_plane"] = Field(
        default="in_plane",
        description="Random orientations: `all` 48 of a cube, or the 16 `in_plane` that keep the z axis.",
    )
    perturbations: PerturbationSettings = Field(
        default=PerturbationSettings(), description="Perturbations that the network learns to undo."
    )
    optimiser: OptimiserSettings = Field(description="The optimiser and the size of its steps.")
    validation: PretrainingValidationSettings = Field(
        default=PretrainingValidationSettings(), description="When to measure the error."
    )

    @field_validator("network")
    @classmethod
    def _starts_with_new_weights(cls, network: NetworkSettings) -> NetworkSettings:
        for name in ("encoder", "bundle"):
            if getattr(network, name) is not None:
                raise ValueError(f"a pre-training starts with new weights; remove network.{name}")
        return network

    @field_validator("perturbations")
    @classmethod
    def _can_be_undone(cls, perturbations: PerturbationSettings) -> PerturbationSettings:
        """Refuse turns: a turned crop does not show that it was turned."""
        turns = [name for name in perturbations.names if name in TURNS]
        if turns:
            raise ValueError(f"a network cannot undo turns of a crop; remove {', '.join(turns)}")
        return perturbations
