"""The command as it was typed: what a model's card says it was made with."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import typer


@dataclass(frozen=True)
class TypedCommand:
    """The arguments of the command that runs, without the program's name."""

    arguments: Sequence[str]

    def __str__(self) -> str:
        """Return the command, to be pasted into a shell. The program's own path is left out."""
        return shlex.join(["neuroseg", *self.arguments])


def typed_command(context: typer.Context) -> str:
    """Return the command that a context belongs to, as it was typed; empty where Python called it."""
    typed = context.find_root().obj
    return str(typed) if isinstance(typed, TypedCommand) else ""
