"""Run SLURM's commands sbatch, squeue and scancel. The only file that does.

If the controller is busy, a command is retried. Sites may print other lines (banners, modules), so only lines of the
expected form are read.
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

_COMMAND_TIMEOUT_S, _POLL_S = 60.0, 0.2
# Pauses before each attempt to submit, and before each attempt to cancel.
_SUBMIT_PAUSES_S = (0.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0)
_CANCEL_PAUSES_S = (0.0, 2.0, 5.0, 10.0)
_BUSY = re.compile(
    r"timed out|unable to contact slurm|resource temporarily unavailable|temporarily unable|connection (refused|reset)"
    r"|connection failure|zero bytes were transmitted|transport endpoint is not connected|in standby mode",
    re.IGNORECASE,
)
_JOB_ID = re.compile(r"(\d+)(;\S+)?")  # JOB or JOB;CLUSTER, as sbatch --parsable prints it
_MARKER = "neuroseg|"
# COMPLETING is not among them: a requeued task has that state for a moment.
_ENDED = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"}
_KEPT_VARIABLES = {"SLURM_CONF"}
_DROPPED_PREFIXES = ("SLURM_", "SQUEUE_", "SCANCEL_")

logger = logging.getLogger(__name__)


class BusyError(NeurosegError):
    """SLURM's controller did not answer. A retry may succeed."""


def submit(line: Sequence[str], name: str, known: Collection[str], over: threading.Event) -> str | None:
    """Submit jobs named `name` with an sbatch command. Return the id of the job (array), or None if `over` is set.

    A submission without an answer may have succeeded. So before a retry, look for a job of that name that is not
    `known`. Raises NeurosegError with the message of sbatch if it refuses, or if the controller never answers.
    """
    unanswered: BusyError | None = None
    for pause_s in _SUBMIT_PAUSES_S:
        if over.wait(pause_s):
            return None
        try:
            job = _newest_job(name, known) if unanswered else None
            if job is None:
                output = _run(line, over)
                job = _job_id_in(output) or _newest_job(name, known)
        except BusyError as error:
            unanswered = error
            logger.warning("SLURM's controller does not answer, retrying: %s", str(error).partition("\n")[0])
            continue
        if job is None:
            raise NeurosegError(f"sbatch printed no job id, and squeue lists no job named {name}: {output!r}")
        return job
    raise NeurosegError(
        f"{unanswered}\n  tried {len(_SUBMIT_PAUSES_S)} times in {sum(_SUBMIT_PAUSES_S):g} s or more"
    ) from unanswered


def count_active(name: str) -> int | None:
    """Return the number of waiting and running tasks of a name. None if the controller does not answer."""
    try:
        tasks = [line.partition("|")[::2] for line in _queued(name, "%T|%r")]
    except NeurosegError:
        return None
    return sum(state not in _ENDED and "held" not in reason.lower() for state, reason in tasks)


def first_pending(name: str) -> str:
    """Return the first waiting task and SLURM's reason. Return an empty string if none waits."""
    with contextlib.suppress(NeurosegError):
        return next(iter(_queued(name, "%i %T %R", "--states=PENDING")), "")
    return ""


def cancel(name: str) -> None:
    """Cancel the jobs of a name."""
    _cancel(f"--name={name}", f"jobs named {name}")


def cancel_job(job: str) -> None:
    """Cancel one job, or one task of an array."""
    _cancel(job, f"job {job}")


def _cancel(selection: str, description: str) -> None:
    failure: NeurosegError | None = None
    for pause_s in _CANCEL_PAUSES_S:
        time.sleep(pause_s)
        try:
            _run(["scancel", selection, _own_user()])
            return
        except BusyError as error:
            failure = error
        except NeurosegError as error:
            failure = error
            break
    logger.warning("cannot cancel %s; they exit when they notice that the run is over: %s", description, failure)


def cancel_own_jobs(token: str) -> None:
    """Start cancelling all jobs that have the name of this process's job, and do not wait. Their head is gone.

    Do nothing if the job is not a worker of the run `token`, but for example a Dask worker.
    """
    name = os.environ.get("SLURM_JOB_NAME", "")
    if name.startswith("neuroseg-") and name.endswith(f"-{token}"):
        line = ["scancel", f"--name={name}", _own_user()]
        with contextlib.suppress(OSError):
            subprocess.Popen(line, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def can_cancel() -> bool:
    """Return whether SLURM's commands are installed."""
    return shutil.which("scancel") is not None


def _newest_job(name: str, known: Collection[str]) -> str | None:
    """Return the newest job (array) of a name that is not `known`, or None."""
    return max((job for job in _queued(name, "%F") if job not in known), key=_as_number, default=None)


def _as_number(job: str) -> int:
    return int(job) if job.isdigit() else -1


def _job_id_in(output: str) -> str | None:
    """Return the job id that is alone on a line. Return None unless there is exactly one."""
    found = {match[1] for line in output.splitlines() if (match := _JOB_ID.fullmatch(line.strip()))}
    return found.pop() if len(found) == 1 else None


def _queued(name: str, form: str, *more: str) -> list[str]:
    """Return the line that squeue prints for each task of a name, without other lines that a site prints."""
    output = _run(
        ["squeue", "--noheader", "--array", f"--format={_MARKER}{form}", f"--name={name}", *more, _own_user()]
    )
    return [line.removeprefix(_MARKER).strip() for line in output.splitlines() if line.startswith(_MARKER)]


def _run(line: Sequence[str], over: threading.Event | None = None) -> str:
    """Return the output of a SLURM command. Kill it when `over` is set.

    Raises NeurosegError with the command's error message, or BusyError if a retry may succeed.
    """
    if shutil.which(line[0]) is None:
        raise NeurosegError(
            f"{line[0]} is not installed on this machine", hint="run --executor slurm on a login node of the cluster"
        )
    # Inside a job, SLURM's variables would become options of the new jobs.
    variables = {
        key: value
        for key, value in os.environ.items()
        if key in _KEPT_VARIABLES or not key.startswith(_DROPPED_PREFIXES)
    }
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=variables,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + _COMMAND_TIMEOUT_S
    with process:
        while True:
            try:
                output, complaint = process.communicate(timeout=_POLL_S)
                break
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline or (over is not None and over.is_set()):
                    process.kill()
                    raise BusyError(f"{line[0]} did not answer within {_COMMAND_TIMEOUT_S:g} s") from None
            except BaseException:
                process.kill()
                raise
    if process.returncode:
        kind = BusyError if _BUSY.search(complaint + output) else NeurosegError
        raise kind(f"{complaint.strip() or output.strip()}\n  command: {shlex.join(line)}")
    return output


def _own_user() -> str:
    return f"--user={os.getuid()}"  # a container may not know its name
