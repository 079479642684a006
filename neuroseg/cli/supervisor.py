"""The process that the shell starts. It waits, passes signals on and leaves no process behind.

    shell -> supervisor -> head (a process group of its own) -> workers (in that group)

The head ends its workers after Ctrl-C. While it runs compiled code it cannot, so the supervisor kills the group after a
grace period. This module imports nothing heavy, so that Ctrl-C works from the start.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import NoReturn

from neuroseg.cli.interruption import INTERRUPTED, raise_on_interrupt, resume_hint
from neuroseg.execution.ending import is_slow_to_end
from neuroseg.execution.parent import die_with_parent

_FAILED = 1
_IDLE_S = 3600.0
_GRACE_S = 4.0  # the head removes half-written files before it is killed
_LONG_GRACE_S = 120.0  # if the head announces a slow end; a second Ctrl-C does not wait
# nohup ignores SIGHUP on purpose. A script's background command ignores SIGINT, but must stay stoppable.
_HANGUP = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL else set()
_ENDING = {signal.SIGINT, signal.SIGTERM} | _HANGUP
_HANDLED = _ENDING | {signal.SIGTSTP, signal.SIGCHLD}
_POLL_S = 0.3


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted."""
    # Blocked signals stay pending until the supervisor waits for them, so none is lost between fork and wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    supervisor = os.getpid()
    head = os.fork()
    if head == 0:
        _exit(_run_head(supervisor))
    sys.exit(_supervise(head))


def _run_head(supervisor: int) -> int:
    """Run the command as head of its own process group; return the exit code."""
    os.setpgid(0, 0)
    die_with_parent(supervisor)
    raise_on_interrupt()
    # SIGTERM may reach every process of a job, or only the head. The supervisor handles it in each case.
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(os.getppid(), number))
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        from neuroseg.cli.main import exit_code

        return exit_code(sys.argv[1:])
    except KeyboardInterrupt:
        return INTERRUPTED


def _exit(code: int) -> NoReturn:
    """End the head. With obstore loaded, skip the interpreter's shutdown, during which its runtime may abort."""
    if "obstore" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _supervise(head: int) -> int:
    """Wait for the head; return the exit code when no process of its group is left."""
    with contextlib.suppress(OSError):
        os.setpgid(head, head)  # supervisor and head both try; the first succeeds
    interrupted: float | None = None
    slow = 0.0
    while not _has_ended(head):
        received = signal.sigtimedwait(_HANDLED, _POLL_S if interrupted else _IDLE_S)
        number = received.si_signo if received else None
        slow = time.monotonic() if is_slow_to_end() else slow
        if number == signal.SIGTSTP:
            _pause(head)
        elif number in _ENDING and interrupted is None:
            interrupted = time.monotonic()
            os.kill(head, signal.SIGINT)
        # A second Ctrl-C kills immediately. A second SIGTERM does not: cluster, script and head may each send one.
        elif interrupted and (number in _ENDING - {signal.SIGTERM} or _is_late(interrupted, slow)):
            _signal_group(head, signal.SIGKILL)
    _signal_group(head, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(head, 0)[1])
    if code == -signal.SIGKILL:
        what = "interrupted" if interrupted else "error: killed by SIGKILL, often a sign of too little memory"
        print(f"{what}{resume_hint(sys.argv[1:])}", file=sys.stderr)
    elif code < 0 and not interrupted:
        print(f"error: killed by {signal.Signals(-code).name}", file=sys.stderr)
    if interrupted and code:
        return INTERRUPTED
    return _FAILED if code < 0 else code


def _is_late(interrupted: float, slow: float) -> bool:
    """Return whether the grace period is over, counted from Ctrl-C and from the last announcement of a slow end."""
    now = time.monotonic()
    return now > interrupted + _LONG_GRACE_S or now > max(interrupted, slow) + _GRACE_S


def _has_ended(head: int) -> bool:
    """Return whether the head has ended. It stays a zombie, so that the system does not reuse its group number."""
    return os.waitid(os.P_PID, head, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _pause(group: int) -> None:
    """Stop the group and this process (Ctrl-Z). Both continue when the shell continues this one."""
    _signal_group(group, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)
    _signal_group(group, signal.SIGCONT)
