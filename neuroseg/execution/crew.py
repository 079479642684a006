"""Runs a stage on other machines: a scheduler here, a gateway in front of it, and a crew of workers that come to it.

    head                                                        worker (a job of the cluster)
    scheduler (loopback)  <-  gateway (secret)         <->      python -m neuroseg.workers.remote WORKSPACE STAGE HEAD
    crew: sends for workers, replaces those that ended

Workers share nothing with the head but the workspace, which lies on a disk that all machines see.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from neuroseg.blocks import Block
from neuroseg.errors import NeurosegError
from neuroseg.execution.block import BLOCK_TIMEOUT_S, Observe
from neuroseg.execution.ending import slow_to_end
from neuroseg.execution.gateway import Gateway
from neuroseg.execution.handshake import new_secret
from neuroseg.execution.ports import listening_port, loopback_address
from neuroseg.execution.scheduler import give_up, hand_out
from neuroseg.stage import Stage
from neuroseg.storage.ledger import StageLedger

_SECRET = ".secret-"
WORKER = "neuroseg.workers.remote"
EVERY_INTERFACE = "0.0.0.0"
# How often the crew is looked after: at first, and when the stage has gone on for long.
_LOOK_S, _LATER_S = 1.0, 10.0
# After so long a user is told what the workers wait for.
_SILENT_S = 20.0
_WAIT_S = 0.01
_TOLD_LINES = 5
# So many workers in a row, for each one wanted, may end without a block done between them.
_FRUITLESS = 3
# Whoever ends this soon after it was sent for was sent to a bad place: the next one is sent later and later.
_SOON_S, _LONGEST_PAUSE_S = 30.0, 60.0


logger = logging.getLogger(__name__)


class Crew(Protocol):
    """The workers of one stage, wherever they run."""

    def send(self, count: int, over: threading.Event) -> None:
        """Send for that many workers more, unless the stage is `over` before; raises NeurosegError when nobody will
        come.
        """
        ...

    def alive(self) -> int | None:
        """Return how many wait or work; None when nobody can tell at the moment."""
        ...

    def waits_for(self) -> str:
        """Return what the workers wait for before they begin, as the cluster puts it; nothing where it does not."""
        ...

    def last_words(self) -> str:
        """Return where a worker's messages lie, and the last of them."""
        ...

    def dismiss(self, *, at_once: bool) -> None:
        """End all workers, whether they wait or work; unless `at_once`, those that are about to end may."""
        ...


Enlist = Callable[[str, str, str], Crew]
"""enlist(stage, token, head's addresses) returns the crew, nobody in it yet; the token names the stage's secret."""


@dataclass
class _Run:
    """What the thread that attends to the crew and the one that hands out blocks tell each other."""

    blocks: int
    done: int = 0
    failed: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None

    @property
    def left(self) -> int:
        return self.blocks - self.done - self.failed


@dataclass(frozen=True)
class RemoteExecutor:
    """Runs `workers` workers of a crew. Jobs reach the head at `hosts`, tried in order, and `port` (0: a free one)."""

    workspace: Path
    workers: int
    logs: Path
    enlist: Enlist
    hosts: Sequence[str]
    port: int = 0
    block_timeout_s: float = BLOCK_TIMEOUT_S

    def run(self, stage: Stage, blocks: Sequence[Block], ledger: StageLedger, observe: Observe) -> int:
        """Run the blocks; see execution.work.Executor. Raises NeurosegError when no worker can be had."""
        run = _Run(len(blocks))

        def observed(done: int, failed: int) -> None:
            run.done, run.failed = done, failed
            observe(done, failed)

        self.logs.mkdir(parents=True, exist_ok=True)
        forget_secrets(self.workspace)
        token, scheduler = secrets.token_hex(4), loopback_address()
        with new_secret(secret_path(self.workspace, token)) as secret, _heard_at_once(run.over), slow_to_end():
            given = (stage.name, token, secret, scheduler, run)
            attending = threading.Thread(target=self._attend, args=given, name="crew")
            attending.start()
            try:
                count = min(self.workers, len(blocks))
                hand_out(
                    stage.name, blocks, ledger, worker=None, workers=count, logs=self.logs,
                    timeout_s=self.block_timeout_s, observe=observed, host=scheduler,
                )  # fmt: skip
            except KeyboardInterrupt:
                if run.error is None:
                    raise
            finally:
                run.over.set()
                attending.join()
        if run.error is not None:
            raise run.error
        return run.done

    def _attend(self, stage: str, token: str, secret: bytes, scheduler: str, run: _Run) -> None:
        """Open the gateway and keep the crew at its strength until the stage is over."""
        port = None
        try:
            port = _awaited_port(scheduler, run.over)
            if port is None:
                return
            with Gateway(secret, (scheduler, port), interface=EVERY_INTERFACE, port=self.port) as gateway:
                head = ",".join(f"{host}:{gateway.port}" for host in self.hosts)
                crew = self.enlist(stage, token, head)
                try:
                    self._keep_up(stage, crew, run)
                finally:
                    crew.dismiss(at_once=run.left > 0)
        except BaseException as error:
            run.error = error
            if port is None:
                _thread.interrupt_main()
            elif not run.over.is_set():
                give_up(stage, scheduler, port)

    def _keep_up(self, stage: str, crew: Crew, run: _Run) -> None:
        """Replace workers that ended while there are blocks for them."""
        wanted = min(self.workers, run.blocks)
        crew.send(wanted, run.over)
        began = sent = time.monotonic()
        fruitless, before, pause, told = 0, 0, _LOOK_S, False
        while not run.over.wait(min(_LATER_S, max(_LOOK_S, (time.monotonic() - began) / 60))):
            if not told and time.monotonic() > began + _SILENT_S:
                told = True
                if run.done == 0 and (waiting := crew.waits_for()):
                    logger.warning("the workers of stage %s wait: %s", stage, waiting)
            alive = crew.alive()
            missing = 0 if alive is None else min(wanted, run.left) - alive
            if missing <= 0 or time.monotonic() < sent + pause:
                continue
            fruitless = missing if run.done > before else fruitless + missing
            before = run.done
            if fruitless > _FRUITLESS * wanted:
                raise NeurosegError(
                    f"{fruitless} workers of stage {stage} ended one after the other and no block was done meanwhile; "
                    f"{crew.last_words()}"
                )
            pause = min(2 * pause, _LONGEST_PAUSE_S) if time.monotonic() < sent + pause + _SOON_S else _LOOK_S
            crew.send(missing, run.over)
            sent = time.monotonic()


def forget_secrets(workspace: Path) -> None:
    """Remove what a head that was killed left: workers that miss their secret leave."""
    for left in workspace.glob(f"{_SECRET}*"):
        left.unlink(missing_ok=True)


def secret_path(workspace: Path, token: str) -> Path:
    """Return where the secret of a stage lies; no two have one name, which machines might remember as missing."""
    return workspace / f"{_SECRET}{token}"


def own_hosts() -> list[str]:
    """Return the names and addresses by which other machines may reach this one, likeliest first."""
    found = [socket.getfqdn(), socket.gethostname()]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent: the kernel only picks the interface of the default route.
        probe.connect(("192.0.2.1", 9))
        found.append(probe.getsockname()[0])
    return [host for host in dict.fromkeys(found) if not host.startswith("localhost")]


def newest_words(logs: Path, stage: str) -> str:
    """Return the newest log of a stage's workers in a folder, and its last lines."""
    found = sorted(logs.glob(f"{stage}-*.log"), key=lambda log: log.stat().st_mtime)
    if not found:
        return f"no worker wrote a log in {logs}: do its machines see that folder? neuroseg cluster check tells"
    said = "\n  ".join(found[-1].read_text(errors="replace").strip().splitlines()[-_TOLD_LINES:])
    return f"{found[-1]} ends with:\n  {said}"


def _awaited_port(host: str, over: threading.Event) -> int | None:
    """Return the port at which this process begins to listen at an address; None when the stage ends before."""
    while not over.is_set():
        if port := listening_port(host):
            return port
        time.sleep(_WAIT_S)
    return None


@contextmanager
def _heard_at_once(over: threading.Event) -> Iterator[None]:
    """Set the event at Ctrl-C while compiled code runs, which would wait for the blocks in hand before it answers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    near, far = socket.socketpair()
    far.setblocking(False)
    before = signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)

    def listen() -> None:
        with contextlib.suppress(OSError):
            while heard := near.recv(1):
                if heard[0] in (signal.SIGINT, signal.SIGTERM):
                    over.set()

    listening = threading.Thread(target=listen, name="interrupts", daemon=True)
    listening.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        far.close()
        listening.join()
        near.close()
