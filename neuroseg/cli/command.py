"""The classes of commands: options under headings in `--help`, close names for unknown commands, the typed command."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from neuroseg.errors import InputError

# The headings of options in the order of `--help`. An option names its heading by typer's `rich_help_panel`.
INPUT, PREDICTION, SEGMENTATION = "Input", "Prediction", "Segmentation"
PREPARATION, TRAINING, OUTPUT, WORKERS = "Preparation", "Training", "Output", "Workers and clusters"
_ARGUMENTS, _GENERAL, _OPTIONS = "Arguments", "General", "Options"
_ORDER = (_ARGUMENTS, INPUT, PREDICTION, SEGMENTATION, PREPARATION, TRAINING, OUTPUT, WORKERS, _GENERAL)
_WIDEST_COLUMN = 28


class Command(TyperCommand):
    """A command that lists its options under headings. Options without a heading come last."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, aligned across all headings."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(_heading(parameter), []).append(_plain(record))
        names = [len(name) for rows in sections.values() for name, _ in rows]
        width = min(max(names), _WIDEST_COLUMN)
        only_general = not sections.keys() - {_ARGUMENTS, _GENERAL}
        for heading in sorted(sections, key=_ORDER.index):
            title = _OPTIONS if only_general and heading == _GENERAL else heading
            with formatter.section(title):
                formatter.write_dl([(f"{name:{width}}", help) for name, help in sections[heading]])


class Commands(TyperGroup):
    """A group that names the close commands when one is unknown, and lists them in the pipeline's order."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command; raises InputError with the close names, or with all names if none is close."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            names = self.list_commands(ctx)
            close = difflib.get_close_matches(name, names, n=2)
            hint = f"did you mean {' or '.join(close)}?" if close else f"use one of {', '.join(names)}"
            raise InputError(f"unknown command {name!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order in which they are registered."""
        return list(self.commands)


@dataclass(frozen=True)
class TypedCommand:
    """The arguments of the current command, without the program's name. Model cards record them."""

    arguments: Sequence[str]

    def __str__(self) -> str:
        """Return the command as a line for a shell, starting with `neuroseg`."""
        return shlex.join(["neuroseg", *self.arguments])


def typed_command(context: typer.Context) -> str:
    """Return the command line of a context as the user typed it; empty if Python called the command."""
    typed = context.find_root().obj
    return str(typed) if isinstance(typed, TypedCommand) else ""


def _heading(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return _ARGUMENTS
    return getattr(parameter, "rich_help_panel", None) or _GENERAL


def _plain(record: tuple[str, str]) -> tuple[str, str]:
    """Return a row of help without the Python type of a parameter, such as `<str>`."""
    name, help = record
    return name.split(" <")[0], help
