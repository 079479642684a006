"""The configuration of a pre-training: an encoder is made from volumes without labels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, field_validator

from neuroseg.configuration import Section
from neuroseg.networks.card import Name
from neuroseg.training.perturbations.draw import TURNS
from neuroseg.training.settings import (
    NetworkSettings,
    OptimiserSettings,
    PerturbationSettings,
    UnlabelledSettings,
)


class PretrainingDataSettings(Section):
    """The volumes to learn from, and one to validate on; relative paths are looked up in `folders`, in order."""

    folders: tuple[str, ...] = (".",)
    training: tuple[UnlabelledSettings, ...] = Field(min_length=1)
    validation: UnlabelledSettings


class PretrainingValidationSettings(Section):
    """How often to measure the error on held-out crops and to save."""

    every_steps: int = Field(default=1000, ge=1)


class PretrainingSettings(Section):
    """The whole of a pre-training configuration."""

    name: Name
    description: str = ""
    seed: NonNegativeInt = 1
    loader_workers: NonNegativeInt = 1
    data: PretrainingDataSettings
    network: NetworkSettings = NetworkSettings()
    orientations: Literal["all", "in_plane"] = "in_plane"
    perturbations: PerturbationSettings = PerturbationSettings()
    optimiser: OptimiserSettings
    validation: PretrainingValidationSettings = PretrainingValidationSettings()

    @field_validator("network")
    @classmethod
    def _begins_anew(cls, network: NetworkSettings) -> NetworkSettings:
        for name in ("encoder", "bundle"):
            if getattr(network, name) is not None:
                raise ValueError(f"a pre-training makes an encoder, it begins with nothing: leave out network.{name}")
        return network

    @field_validator("perturbations")
    @classmethod
    def _can_be_undone(cls, perturbations: PerturbationSettings) -> PerturbationSettings:
        """Refuse turns: nothing in a turned crop tells that it was turned."""
        turns = [name for name in perturbations.names if name in TURNS]
        if turns:
            raise ValueError(f"no network can see that a crop was turned: leave out {', '.join(turns)}")
        return perturbations
