"""Ctrl-C: it always interrupts the command, and the message says whether the same command continues the work."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

INTERRUPTED = 130
_CONTINUING = ("predict", "segment", "run", "pretrain", "train", "adapt")
_MOMENT_S = 0.01


def way_on(arguments: Sequence[str]) -> str:
    """Return what a message adds for a command that, given again, does only what is left; nothing for others."""
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    return "; the same command continues where it stopped" if command in _CONTINUING else ""


def heed_interrupts() -> None:
    """Make Ctrl-C raise KeyboardInterrupt in any code.

    In a finaliser or an import lock's callback, Python prints the exception and drops it. Then it is raised again a
    moment later.
    """
    report = sys.unraisablehook

    def again(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, _MOMENT_S)
        else:
            report(unraisable)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    sys.unraisablehook = again
