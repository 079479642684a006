"""The program that jobs of a cluster run, and how it finds the head.

head                                            job
Program: the words of the command, the logs  -> Head: reads the secret, connects
"""

from __future__ import annotations

import logging
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from neuroseg.errors import NeurosegError
from neuroseg.execution.channel import Channel, connect
from neuroseg.execution.cluster.slurm_commands import cancel_own_jobs
from neuroseg.execution.listener import secret_path
from neuroseg.execution.parent import die_with_parent

# The variable with the process id of the Dask worker that a job ends with.
DIES_WITH = "NEUROSEG_DIES_WITH"
_TAIL_LINES = 5
_RECONNECT_TIMEOUT_S = 3.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Program:
    """The program of jobs: `python -m MODULE FOLDER TOKEN HEAD KIND`. Each job writes a log in `logs`.

    `token` names the secret in `folder`. `head` has the addresses of the head. `kind` names the jobs and their logs.
    """

    module: str
    folder: Path
    logs: Path
    token: str
    head: str
    kind: str

    @property
    def words(self) -> list[str]:
        """The words after the name of Python."""
        # -P: do not import from the working directory, which may contain data of others.
        return ["-P", "-m", self.module, str(self.folder.resolve()), self.token, self.head, self.kind]

    @property
    def secret(self) -> Path:
        """The file that exists until the head ends."""
        return secret_path(self.folder.resolve(), self.token)

    def newest_log(self) -> Path | None:
        """Return the newest log of these jobs, or None if there is no log."""
        found = self.logs.resolve().glob(f"{self.kind}-*.log")
        return max(found, key=lambda log: log.stat().st_mtime, default=None)

    def log_tail(self) -> str:
        """Return the path of the newest log, and its last lines."""
        log = self.newest_log()
        if log is None:
            return f"no worker wrote a log in {self.logs.resolve()}; the compute nodes may not see this folder"
        return f"{log} ends with:\n  {last_lines(log)}"


def last_lines(log: Path) -> str:
    """Return the last lines of a log, indented."""
    return "\n  ".join(log.read_text(errors="replace").strip().splitlines()[-_TAIL_LINES:])


def end_with_job() -> None:
    """Let this process end with the job that started it: SLURM sends SIGTERM, and Dask's task is its parent."""
    if parent := os.environ.get(DIES_WITH):
        die_with_parent(int(parent))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Head:
    """The head of this job, from the arguments FOLDER, TOKEN and HEAD of its command.

    Raises FileNotFoundError if the head has ended, or if this machine does not see the folder.
    """

    def __init__(self, folder: str, token: str, head: str) -> None:
        self._addresses = [(host, int(port)) for host, _, port in (one.rpartition(":") for one in head.split(","))]
        self._token, self.secret = token, secret_path(Path(folder), token)
        self._content = self.secret.read_bytes()

    def connect(self) -> Channel:
        """Return a channel to the head. Raises NeurosegError if no address of the head answers."""
        return connect(self._addresses, self._content)

    def cancel_jobs_if_gone(self) -> None:
        """Cancel the other jobs of this name if the head is gone. If it still answers, it dropped only this one."""
        try:
            connect(self._addresses, self._content, timeout_s=_RECONNECT_TIMEOUT_S).close()
        except NeurosegError as error:
            logger.warning("this worker exits: %s", error)
            cancel_own_jobs(self._token)
