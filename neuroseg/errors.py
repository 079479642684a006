"""Every error a user can meet, and the exit code of the command it ends.

The vocabulary's lowest layer: it imports nothing, everything may import it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NeurosegError(Exception):
    """An error whose message is written for the person at the terminal. Ends a command with `exit_code`.

    `hint` says how to fix it. The terminal shows it on a line of its own.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        """Return the message, and the hint on the next line."""
        message = super().__str__()
        return f"{message}\nhint: {self.hint}" if self.hint else message


class InputError(NeurosegError):
    """A wrong option, path, array or configuration: nothing was written."""

    exit_code = 2


class BlocksFailedError(NeurosegError):
    """Some blocks of a stage failed; the others are complete and a rerun does only what is missing."""


class DamagedError(NeurosegError):
    """A file that a stage had made is missing, or not what it was."""


class MissingPartError(DamagedError):
    """A block's part of a table is not there: removed, or not made yet."""

    def __init__(self, message: str, artifact: str, block: int, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.artifact, self.block = artifact, block


class DiskFullError(NeurosegError):
    """The disk filled up while a run was writing; what is done is complete, and a rerun continues."""


class RunRefusedError(InputError):
    """The workspace holds results of other inputs or parameters; nothing was changed."""


def unknown_name(kind: str, found: str, valid: Iterable[str]) -> InputError:
    """Return the error for a name that is not in `valid`: it lists the valid names and suggests the closest ones."""
    names = sorted(valid)
    close = difflib.get_close_matches(found, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else ""
    return InputError(f"unknown {kind} {found!r} (valid: {', '.join(names)})", hint=hint)
