"""The errors that a user can see, and the exit code of each.

The lowest layer: this module imports nothing from neuroseg, and every module may import it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NeurosegError(Exception):
    """An error with a message for the user. The command ends with `exit_code`.

    `hint` states the fix. The terminal prints it on its own line.
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
    """A wrong option, path, array or configuration. Nothing was written."""

    exit_code = 2


class BlocksFailedError(NeurosegError):
    """Some blocks of a stage failed. The others are complete; a rerun computes only the missing blocks."""


class DamagedError(NeurosegError):
    """A file that a stage wrote is missing or has changed."""


class MissingPartError(DamagedError):
    """A block's part of a table is missing: it was removed, or is not computed yet."""

    def __init__(self, message: str, artifact: str, block: int, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.artifact, self.block = artifact, block


class DiskFullError(NeurosegError):
    """The disk filled up during a run. Completed blocks are kept; a rerun continues."""


class RunRefusedError(InputError):
    """The workspace holds results of other inputs or parameters. Nothing was changed."""


def unknown_name(kind: str, found: str, valid: Iterable[str]) -> InputError:
    """Return the error for a name that is not in `valid`. It lists the valid names and suggests the closest."""
    names = sorted(valid)
    close = difflib.get_close_matches(found, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else ""
    return InputError(f"unknown {kind} {found!r} (valid: {', '.join(names)})", hint=hint)
