"""Every error a user can meet, and the exit code of the command it ends.

The vocabulary's lowest layer: it imports nothing, everything may import it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NeurosegError(Exception):
    """An error whose message is written for the person at the terminal; ends a command with `exit_code`."""

    exit_code = 1


class InputError(NeurosegError):
    """A wrong option, path, array or configuration: nothing was written."""

    exit_code = 2


class BlocksFailedError(NeurosegError):
    """Some blocks of a stage failed; the others are complete and a rerun does only what is missing."""


class DamagedError(NeurosegError):
    """A file that a stage had made is missing, or not what it was."""


class MissingPartError(DamagedError):
    """A block's part of a table is not there: removed, or not made yet."""

    def __init__(self, message: str, artifact: str, block: int) -> None:
        super().__init__(message)
        self.artifact, self.block = artifact, block


class DiskFullError(NeurosegError):
    """The disk filled up while a run was writing; what is done is complete, and a rerun continues."""


class RunRefusedError(InputError):
    """The workspace holds results of other inputs or parameters; nothing was changed."""


def unknown_name(kind: str, found: str, valid: Iterable[str]) -> InputError:
    """Return the error for a name that is not in `valid`: it lists the valid names, the closest first."""
    names = sorted(valid)
    close = difflib.get_close_matches(found, names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return InputError(f"unknown {kind} {found!r}{hint} (valid: {', '.join(names)})")
