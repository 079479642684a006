"""Read the configuration of a training or pre-training, and detect one that belongs to the other command."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from neuroseg.configuration import load_configuration
from neuroseg.errors import InputError
from neuroseg.training.pretraining_settings import PretrainingSettings
from neuroseg.training.settings import TrainingSettings

Settings = TypeVar("Settings", TrainingSettings, PretrainingSettings)
_COMMANDS: dict[type[TrainingSettings] | type[PretrainingSettings], str] = {
    TrainingSettings: "neuroseg train",
    PretrainingSettings: "neuroseg pretrain",
}


def read_settings(path: Path, kind: type[Settings]) -> Settings:
    """Return the configuration in `path`.

    Raises InputError if it is wrong. If it belongs to the other command, the error names that command.
    """
    try:
        return load_configuration(path, kind)
    except InputError:
        for other, command in _COMMANDS.items():
            if other is not kind and _is(path, other):
                raise InputError(f"{path.name} belongs to another command", hint=f"use {command} {path}") from None
        raise


def _is(path: Path, kind: type[TrainingSettings | PretrainingSettings]) -> bool:
    try:
        load_configuration(path, kind)
    except InputError:
        return False
    return True
