"""SLURM's commands: sbatch, squeue and scancel. The one file that runs them.

A controller that is busy is asked again. What sites print around the answers (banners, modules) is not taken for them:
an answer is a line of a known form.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Collection, Sequence

from neuroseg.errors import NeurosegError

_PATIENCE_S, _LOOK_S = 60.0, 0.2
# Before each submission, and each attempt to cancel.
_PAUSES_S = (0.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0)
_CANCEL_PAUSES_S = (0.0, 2.0, 5.0, 10.0)
_BUSY = re.compile(
    r"timed out|unable to contact slurm|resource temporarily unavailable|temporarily unable|connection (refused|reset)"
    r"|connection failure|zero bytes were transmitted|transport endpoint is not connected|in standby mode",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(\d+)(;\S+)?")  # of a job and its cluster, as sbatch --parsable prints them
_OURS = "neuroseg|"
# A task that is requeued is COMPLETING for a moment, too.
_ENDED = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"}
_KEPT_VARIABLES = {"SLURM_CONF"}
_OTHERS = ("SLURM_", "SQUEUE_", "SCANCEL_")

logger = logging.getLogger(__name__)


class BusyError(NeurosegError):
    """SLURM's controller did not answer; asked again a little later it may."""


def submitted(line: Sequence[str], name: str, known: Collection[str], over: threading.Event) -> str | None:
    """Submit jobs called `name` with a command of sbatch; returns the number of the job (array), None once `over`.

    A submission that was not answered may have gone through: before it is repeated, jobs of that name are looked for,
    other than those `known`. Raises NeurosegError with what sbatch says when it refuses, or never answers.
    """
    unanswered: BusyError | None = None
    for pause_s in _PAUSES_S:
        if over.wait(pause_s):
            return None
        try:
            job = _job_called(name, known) if unanswered else None
            if job is None:
                said = _asked(line, over)
                job = _number_in(said) or _job_called(name, known)
        except BusyError as error:
            unanswered = error
            logger.warning("SLURM's controller does not answer and is asked again: %s", str(error).partition("\n")[0])
            continue
        if job is None:
            raise NeurosegError(f"sbatch printed no number of a job, and squeue knows none called {name}: {said!r}")
        return job
    raise NeurosegError(f"{unanswered}\n  asked {len(_PAUSES_S)} times in {sum(_PAUSES_S):g} s or more") from unanswered


def alive(name: str) -> int | None:
    """Return how many tasks of a name wait or run; None when the controller does not answer."""
    try:
        tasks = [line.partition("|")[::2] for line in _listed(name, "%T|%r")]
    except NeurosegError:
        return None
    return sum(state not in _ENDED and "held" not in reason.lower() for state, reason in tasks)


def waiting(name: str) -> str:
    """Return the first task that waits in the queue and why, as the controller puts it; nothing where none does."""
    with contextlib.suppress(NeurosegError):
        return next(iter(_listed(name, "%i %T %R", "--states=PENDING")), "")
    return ""


def cancel(name: str) -> None:
    """Cancel the jobs of a name."""
    _cancel(f"--name={name}", f"jobs called {name}")


def cancel_job(job: str) -> None:
    """Cancel one job, or one task of an array."""
    _cancel(job, f"job {job}")


def _cancel(which: str, called: str) -> None:
    failure: NeurosegError | None = None
    for pause_s in _CANCEL_PAUSES_S:
        time.sleep(pause_s)
        try:
            _asked(["scancel", which, _own()])
            return
        except BusyError as error:
            failure = error
        except NeurosegError as error:
            failure = error
            break
    logger.warning("%s could not be cancelled, they end by themselves: %s", called, failure)


def leave_together(token: str) -> None:
    """Begin to cancel all jobs of this one's name, and do not wait: nobody is there to give them work.

    Where this process lies in a job of another name, of a Dask worker or of a user, nothing is cancelled.
    """
    name = os.environ.get("SLURM_JOB_NAME", "")
    if name.startswith("neuroseg-") and name.endswith(f"-{token}"):
        line = ["scancel", f"--name={name}", _own()]
        with contextlib.suppress(OSError):
            subprocess.Popen(line, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def can_cancel() -> bool:
    """Return whether SLURM's commands are here."""
    return shutil.which("scancel") is not None


def _job_called(name: str, known: Collection[str]) -> str | None:
    """Return the newest job (array) of a name that is not known; None where there is none."""
    return max((job for job in _listed(name, "%F") if job not in known), key=_as_number, default=None)


def _as_number(job: str) -> int:
    return int(job) if job.isdigit() else -1


def _number_in(said: str) -> str | None:
    """Return the number of a job that stands on a line of its own; None unless there is exactly one."""
    found = {match[1] for line in said.splitlines() if (match := _NUMBER.fullmatch(line.strip()))}
    return found.pop() if len(found) == 1 else None


def _listed(name: str, form: str, *more: str) -> list[str]:
    """Return what squeue prints of each task of a name, without what a site prints around it."""
    said = _asked(["squeue", "--noheader", "--array", f"--format={_OURS}{form}", f"--name={name}", *more, _own()])
    return [line.removeprefix(_OURS).strip() for line in said.splitlines() if line.startswith(_OURS)]


def _asked(line: Sequence[str], over: threading.Event | None = None) -> str:
    """Return what a command of SLURM prints; it is killed once `over`.

    Raises NeurosegError with its complaint, BusyError when it may be repeated.
    """
    if shutil.which(line[0]) is None:
        raise NeurosegError(f"{line[0]} is not here: --executor slurm runs where SLURM's commands are (a login node)")
    # Inside a job, its own variables would pass for wishes about the jobs to come.
    kept = {key: value for key, value in os.environ.items() if key in _KEPT_VARIABLES or not key.startswith(_OTHERS)}
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=kept,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + _PATIENCE_S
    with process:
        while True:
            try:
                said, complaint = process.communicate(timeout=_LOOK_S)
                break
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline or (over is not None and over.is_set()):
                    process.kill()
                    raise BusyError(f"{line[0]} did not answer within {_PATIENCE_S:g} s") from None
            except BaseException:
                process.kill()
                raise
    if process.returncode:
        kind = BusyError if _BUSY.search(complaint + said) else NeurosegError
        raise kind(f"{complaint.strip() or said.strip()}\n  said by: {shlex.join(line)}")
    return said


def _own() -> str:
    return f"--user={os.getuid()}"  # a container may know no name for it
