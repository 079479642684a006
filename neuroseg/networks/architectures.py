"""The architectures by name: what a bundle's card and a training configuration may ask for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from neuroseg.errors import InputError, unknown_name
from neuroseg.networks.light import LightUNet
from neuroseg.networks.mala import MalaUNet
from neuroseg.networks.superhuman import SuperhumanUNet

ARCHITECTURES: Mapping[str, Callable[..., nn.Module]] = {
    "light": LightUNet, "superhuman": SuperhumanUNet, "mala": MalaUNet,
}  # fmt: skip


def build_network(architecture: str, parameters: Mapping[str, Any]) -> nn.Module:
    """Return a freshly initialised network; raises InputError for an unknown name, or an unknown or wrong parameter."""
    if architecture not in ARCHITECTURES:
        raise unknown_name("architecture", architecture, ARCHITECTURES)
    if "widths" in parameters:
        _check_widths(parameters["widths"])
    try:
        return ARCHITECTURES[architecture](**parameters)
    except (TypeError, ValueError) as error:
        raise InputError(f"architecture {architecture!r} does not take {dict(parameters)}: {error}") from error


def _check_widths(widths: object) -> None:
    """Raise InputError unless these are channels of levels: whole numbers, at least one."""
    levels = widths if isinstance(widths, Sequence) and not isinstance(widths, str) else ()
    if not levels or any(type(width) is not int or width < 1 for width in levels):
        raise InputError(
            f"network.parameters.widths = {widths!r}: the channels of each level, whole numbers of 1 or more, are "
            "expected, for example [16, 32, 64, 128]"
        )


def with_defaults(architecture: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters and what is not said of them: the same network must not have two descriptions."""
    own = inspect.signature(ARCHITECTURES[architecture]).parameters
    return {**{name: each.default for name, each in own.items()}, **parameters}


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
