"""Ctrl-C interrupts the command anywhere; a hint follows if the same command resumes the work."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

INTERRUPTED = 130
_RESUMABLE = ("predict", "segment", "run", "pretrain", "train", "adapt", "validate")
_RETRY_S = 0.01


def resume_hint(arguments: Sequence[str]) -> str:
    """Return the hint, on a line of its own, for a command that resumes when it is run again; empty for others."""
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    return "\nhint: run the same command again to resume" if command in _RESUMABLE else ""


def raise_on_interrupt() -> None:
    """Make Ctrl-C raise KeyboardInterrupt in any code.

    In a finaliser or an import lock's callback, Python prints the exception and drops it. A timer then raises it again.
    """
    report = sys.unraisablehook

    def raise_again(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, _RETRY_S)
        else:
            report(unraisable)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    sys.unraisablehook = raise_again
