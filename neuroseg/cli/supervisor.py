"""The process that the shell starts: it only waits, passes signals on, and lets nothing survive.

    shell -> supervisor -> head (a process group of its own) -> workers (in that group)

The head ends its workers itself, as soon as it hears of Ctrl-C; but compiled code, which it may be in, hears nothing.
Nothing heavy is imported here: Ctrl-C is answered from the first moment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import NoReturn

from neuroseg.cli.interruption import INTERRUPTED, heed_interrupts, way_on
from neuroseg.execution.ending import is_slow_to_end
from neuroseg.execution.parent import die_with_parent

_FAILED = 1
_LONG_S = 3600.0
_GRACE_S = 4.0  # for the head to remove what is half-written, before it is killed
_LONG_GRACE_S = 120.0  # where it announces that it is slow to end; a second Ctrl-C does not wait for it
# nohup has SIGHUP ignored and means it; a script's background command has SIGINT ignored, but shall be stoppable.
_HANGUP = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL else set()
_ENDING = {signal.SIGINT, signal.SIGTERM} | _HANGUP
_HEEDED = _ENDING | {signal.SIGTSTP, signal.SIGCHLD}
_LOOK_S = 0.3


def main() -> None:
    """Run the command line; exits 0 done, 1 failed, 2 wrong usage or input, 130 interrupted."""
    # Blocked signals wait until the supervisor asks for them, so none is lost between fork and wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
    supervisor = os.getpid()
    head = os.fork()
    if head == 0:
        _leave(_lead(supervisor))
    sys.exit(_supervise(head))


def _lead(supervisor: int) -> int:
    """Run the command as head of a process group of its own; returns the exit code."""
    os.setpgid(0, 0)
    die_with_parent(supervisor)
    heed_interrupts()
    # The supervisor answers it, also where it goes to every process of a job, or to the head alone.
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(os.getppid(), number))
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEEDED)
        from neuroseg.cli.main import exit_code

        return exit_code(sys.argv[1:])
    except KeyboardInterrupt:
        return INTERRUPTED


def _leave(code: int) -> NoReturn:
    """End the head; at once where a compiled runtime for servers is loaded: it may abort as the interpreter ends."""
    if "obstore" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _supervise(head: int) -> int:
    """Wait for the head; returns the exit code when no process of its group is left."""
    with contextlib.suppress(OSError):
        os.setpgid(head, head)  # whoever of the two comes first
    interrupted: float | None = None
    slow = 0.0
    while not _has_ended(head):
        heard = signal.sigtimedwait(_HEEDED, _LOOK_S if interrupted else _LONG_S)
        number = heard.si_signo if heard else None
        slow = time.monotonic() if is_slow_to_end() else slow
        if number == signal.SIGTSTP:
            _pause_with(head)
        elif number in _ENDING and interrupted is None:
            interrupted = time.monotonic()
            os.kill(head, signal.SIGINT)
        # A second Ctrl-C does not wait. SIGTERM may come again and again: from the cluster, its script, the head.
        elif interrupted and (number in _ENDING - {signal.SIGTERM} or _is_late(interrupted, slow)):
            _tell(head, signal.SIGKILL)
    _tell(head, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(head, 0)[1])
    if code == -signal.SIGKILL:
        what = "interrupted" if interrupted else "error: killed (out of memory?)"
        print(f"{what}{way_on(sys.argv[1:])}", file=sys.stderr)
    elif code < 0 and not interrupted:
        print(f"error: ended by {signal.Signals(-code).name}", file=sys.stderr)
    if interrupted and code:
        return INTERRUPTED
    return _FAILED if code < 0 else code


def _is_late(interrupted: float, slow: float) -> bool:
    """Return whether the head has used up its time to end, counted from Ctrl-C and from when it was last slow."""
    now = time.monotonic()
    return now > interrupted + _LONG_GRACE_S or now > max(interrupted, slow) + _GRACE_S


def _has_ended(head: int) -> bool:
    """Return whether the head has ended; it stays a zombie, so that its group's number is not given away."""
    return os.waitid(os.P_PID, head, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _tell(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _pause_with(group: int) -> None:
    """Ctrl-Z: stop the group and this process; both go on when the shell continues this one."""
    _tell(group, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)
    _tell(group, signal.SIGCONT)
