"""The architectures by name, as used in a bundle's card and in a training configuration."""

from __future__ import annotations

import inspect
import reprlib
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


_MOST_LEVELS = 8
_WIDEST_CHANNELS = 65536


def build_network(architecture: str, parameters: Mapping[str, Any]) -> nn.Module:
    """Return a newly initialised network.

    Raises InputError for an unknown name, or for an unknown or wrong parameter.
    """
    if architecture not in ARCHITECTURES:
        raise unknown_name("architecture", architecture, ARCHITECTURES)
    own = inspect.signature(ARCHITECTURES[architecture]).parameters
    for name, value in parameters.items():
        if name not in own:
            raise unknown_name(f"parameter of the architecture {architecture}", str(name), own)
        _check_parameter(name, value, own[name].default)
    try:
        return ARCHITECTURES[architecture](**parameters)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"architecture {architecture!r} does not accept {dict(parameters)}: {error}") from error


def _check_parameter(name: str, value: object, default: object) -> None:
    """Raise InputError unless a value has the type of its default."""
    if name == "widths":
        levels = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
        if not 0 < len(levels) <= _MOST_LEVELS or not all(_is_width(width) for width in levels):
            raise InputError(
                f"network.parameters.widths = {_shown(value)}: expected the channels of each level, whole numbers "
                f"from 1 to {_WIDEST_CHANNELS}, at most {_MOST_LEVELS} levels",
                hint="use a list such as [16, 32, 64, 128]",
            )
    elif name == "outputs":
        if not _is_width(value):
            raise InputError(
                f"network.parameters.outputs = {_shown(value)}: expected a whole number of channels from 1 to "
                f"{_WIDEST_CHANNELS}"
            )
    elif type(value) is not type(default):
        raise InputError(
            f"network.parameters.{name} = {_shown(value)}: expected a value such as {default!r} "
            f"({type(default).__name__})"
        )


def _is_width(value: object) -> bool:
    return type(value) is int and 1 <= value <= _WIDEST_CHANNELS


def _shown(value: object) -> str:
    """Return a value as shortened text: a file may contain a value of any length."""
    return reprlib.repr(value)


def with_defaults(architecture: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with all defaults filled in, so that equal networks have equal descriptions."""
    own = inspect.signature(ARCHITECTURES[architecture]).parameters
    return {**{name: each.default for name, each in own.items()}, **parameters}


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
