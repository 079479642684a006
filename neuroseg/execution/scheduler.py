"""Hands the numbers of pending blocks out to workers and takes them back. The one file that imports daisy.

    head                                       worker
    daisy server: hands out numbers      <->   drains blocks until none is left (execution/drain in a worker process)
    0 .. n-1 of the pending blocks

The scheduler knows only numbers: which block a number means stands in the ledger's folder, so that workers need
nothing but the workspace. Every executed block is deterministic and atomic, because daisy may run one twice.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from neuroseg.blocks import Block
from neuroseg.errors import DiskFullError, NeurosegError
from neuroseg.execution.block import Observe, process_block
from neuroseg.stage import Process, Stage
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.publish import publish_text
from neuroseg.storage.state import numbers_in

_RETRIES = 2
# A worker that dies costs one restart; besides, so many may die before they take a block.
_MOST_RESTARTS, _SPARE_RESTARTS = 1000, 10
_LANES = 2
LOOPBACK = "127.0.0.1"

logger = logging.getLogger(__name__)


def hand_out(
    stage: str,
    blocks: Sequence[Block],
    ledger: StageLedger,
    *,
    worker: Callable[[], None] | None,
    workers: int,
    logs: Path,
    timeout_s: float,
    observe: Observe,
    host: str = LOOPBACK,
) -> int:
    """Hand out the blocks of a stage until each is done or has failed too often; returns how many are done.

    `worker` is what a process that daisy starts calls, `workers` of them at a time; None: workers come by themselves.
    A block that takes longer than `timeout_s` is given to another worker, and its own dies. The scheduler listens at
    `host`, an address of the loopback interface. Raises NeurosegError when workers that daisy starts keep dying.
    """
    import daisy.v2 as daisy
    from daisy.logging import set_log_basedir

    publish_text(_pending_path(ledger), json.dumps([block.index for block in blocks]))
    set_log_basedir(str(logs))
    logging.getLogger("daisy").setLevel(logging.CRITICAL)
    task = daisy.Task(
        stage,
        total_roi=daisy.Roi((0,), (len(blocks),)),
        read_roi=daisy.Roi((0,), (1,)),
        write_roi=daisy.Roi((0,), (1,)),
        process_function=worker,
        read_write_conflict=False,
        max_workers=workers,
        max_retries=_RETRIES,
        timeout=timeout_s,
        max_worker_restarts=min(_MOST_RESTARTS, _SPARE_RESTARTS + (1 + _RETRIES) * len(blocks)),
    )
    observer = _Observer(observe)
    try:
        with _descriptor_2_into(logs / "scheduler.log"):
            daisy.run_blockwise(task, progress=observer, block_tracking=False, host=host, summary=False)
    except RuntimeError as error:
        raise NeurosegError(f"the workers of stage {stage} kept dying; see {logs}: {error}") from error
    return observer.done


def give_up(stage: str, host: str, port: int) -> None:
    """Report every block that is left as failed, so that `hand_out` returns although no worker will come any more."""
    import daisy.v2 as daisy

    client = daisy.Client(_context(stage, host, port))
    while True:
        with _acquired(client) as unit:
            if unit is None:
                return
            unit.status = daisy.BlockStatus.FAILED


@contextmanager
def _acquired(client: Any) -> Iterator[Any]:
    """Hold the next block; None when there is none left, or no scheduler: it may end before all were told."""
    with ExitStack() as held:
        try:
            unit = held.enter_context(client.acquire_block())
        except RuntimeError as error:
            logger.info("the scheduler has ended: %s", error)
            unit = None
        yield unit


def context_of(stage: str, port: int) -> dict[str, str]:
    """Return the environment by which a worker finds the scheduler at a port of its own machine."""
    context = _context(stage, LOOPBACK, port)
    return {context.ENV_VARIABLE: context.to_env()}


def _context(stage: str, host: str, port: int) -> Any:
    import daisy.v2 as daisy

    return daisy.Context(hostname=host, port=str(port), task_id=stage, worker_id=str(os.getpid()), logdir="")


def drain(stage: Stage, ledger: StageLedger, *, alone: bool = False) -> None:
    """Set the stage up once and process blocks until the scheduler has none left: the body of a worker.

    When the set-up itself fails, the blocks fail with its cause instead of the worker dying again and again; it raises
    where the worker is `alone` with its trouble, on a machine that may be unlike the others'.
    """
    try:
        opened = stage.open()
        process = opened.__enter__()
    except Exception as error:
        if alone:
            raise
        _drain(partial(_fail, error), stage, ledger)
        return
    try:
        _drain(process, stage, ledger)
    finally:
        opened.__exit__(None, None, None)


def _drain(process: Process, stage: Stage, ledger: StageLedger) -> None:
    """Process blocks in two lanes (threads): while one completes its block, the other takes and begins the next.

    A lane takes a block only when the other has begun its own: a block taken earlier would wait here while another
    worker may be idle. When the disk is full, what is left is handed back unprocessed: no block could be written.
    """
    import daisy.v2 as daisy

    pending = numbers_in(_pending_path(ledger))
    if pending is None:
        raise NeurosegError(f"{_pending_path(ledger)} is damaged; run the same command again")
    turn = threading.Lock()
    full = threading.Event()

    def lane() -> None:
        client = daisy.Client()
        while True:
            with ExitStack() as turn_held:
                turn_held.enter_context(turn)
                with _acquired(client) as unit:
                    if unit is None:
                        return
                    unit.status = daisy.BlockStatus.FAILED
                    if full.is_set():
                        continue
                    block = stage.lattice.block(pending[unit.write_roi.begin[0]], stage.halo)
                    try:
                        if process_block(process, block, ledger, stage, begun=turn_held.close):
                            unit.status = daisy.BlockStatus.SUCCESS
                    except DiskFullError as error:
                        logger.error("%s", error)
                        full.set()

    with ThreadPoolExecutor(_LANES, "lane") as lanes:
        for finished in [lanes.submit(lane) for _ in range(_LANES)]:
            finished.result()


def _fail(error: Exception, block: Block) -> None:
    raise NeurosegError(f"a worker could not be set up: {type(error).__name__}: {error}") from error


def _pending_path(ledger: StageLedger) -> Path:
    return ledger.folder / "pending.json"


@contextmanager
def _descriptor_2_into(log: Path) -> Iterator[None]:
    """Append what the compiled scheduler writes to descriptor 2 to a log, where the command's messages go elsewhere."""
    try:
        is_shared = sys.stderr.fileno() == 2
    except (AttributeError, OSError):
        is_shared = True
    if is_shared:
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    before = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


class _Observer:
    """Turns daisy's task states into (done, failed)."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self.done = 0

    def on_start(self, states: Any) -> None:
        """Called when the workers start."""
        self.on_progress(states)

    def on_progress(self, states: Any) -> None:
        """Called every half second or so."""
        for state in states.values():
            self.done = int(state.completed_count)
            self._observe(self.done, int(state.failed_count))

    def on_finish(self, states: Any) -> None:
        """Called at the end."""
        self.on_progress(states)
