"""A worker's life: it sets stages up, processes their blocks, and tells the head, until the head is gone.

Two threads (lanes) take turns: while one completes its block (writes it), the other takes and begins the next.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from neuroseg.blocks import Block
from neuroseg.errors import DiskFullError, MissingPartError, NeurosegError
from neuroseg.execution.block import forget_peak_memory, own_job, process_block
from neuroseg.execution.channel import Channel
from neuroseg.stage import Process, Stage
from neuroseg.storage.ledger import StageLedger

Find = Callable[[str], tuple[Stage, StageLedger]]
"""find(name) returns a stage of the run and its marks."""

# How long it may take a lane to read that the run is over, when that is the last that the head says.
_LAST_WORD_S = 0.3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Opened:
    """A stage that is set up; leaving `held` ends that."""

    stage: Stage
    ledger: StageLedger
    process: Process
    held: ExitStack


def serve(channel: Channel, find: Find, *, alone: bool, lost: Callable[[], None] = lambda: None) -> None:
    """Do what the head asks for until it says that the run is over.

    Where a stage cannot be set up, its blocks fail with the cause; the process ends where the worker is `alone` with
    its trouble, on a machine that may be unlike the others'. It ends, too, when the head is gone: blocks are atomic,
    and nobody waits for the one in hand. Then `lost` is called before.
    """
    channel.send({"job": own_job()})
    lanes = _Lanes(channel, find, alone)
    for act in (lambda: _watch(channel, lanes.over, lost), lanes.run):
        threading.Thread(target=_or_end, args=(act,), daemon=True).start()
    lanes.run()
    channel.close()


class _Lanes:
    """What the lanes share: the turn to listen to the head, and the stages that are set up."""

    def __init__(self, channel: Channel, find: Find, alone: bool) -> None:
        self._channel, self._find, self._alone = channel, find, alone
        self._turn = threading.Lock()
        self._opened: dict[str, _Opened] = {}
        self.over = threading.Event()

    def run(self) -> None:
        """Be one lane."""
        while True:
            with ExitStack() as turn:
                turn.enter_context(self._turn)
                if self.over.is_set():
                    return
                match self._channel.receive():
                    case {"open": str(name)}:
                        self._opened[name] = _open(*self._find(name), alone=self._alone)
                        self._channel.send({"opened": name})
                    case {"stage": str(name), "block": int(index), "early": bool(early)}:
                        self._do(self._opened[name], index, early, begun=turn.close)
                    case {"close": str(name)}:
                        self._opened.pop(name).held.close()
                    case {"end": _}:
                        self.over.set()
                    case _:
                        threading.Event().wait()  # for the end, which the loss of the head brings (`_watch`)

    def _do(self, opened: _Opened, index: int, early: bool, begun: Callable[[], None]) -> None:
        """Process a block and say what became of it; `begun` gives the turn to the other lane."""
        stage = opened.stage
        key = [stage.name, index]

        def next_please() -> None:
            self._channel.send({"begun": key})
            begun()

        block = stage.lattice.block(index, stage.halo)
        try:
            done = process_block(opened.process, block, opened.ledger, stage, begun=next_please, early=early)
            self._channel.send({"done" if done else "failed": key})
        except MissingPartError as error:
            self._channel.send({"early": key, "needs": [error.artifact, error.block]})
        except DiskFullError as error:
            logger.error("%s", error)
            self._channel.send({"full": str(error)})


def _or_end(act: Callable[[], None]) -> None:
    """Do something in a thread whose failure is the process's."""
    try:
        act()
    except BaseException:
        logger.exception("this worker ends")
        os._exit(1)


def _watch(channel: Channel, over: threading.Event, lost: Callable[[], None]) -> None:
    """End the process when the other end of the channel is gone, unless the run is over."""
    gone = select.poll()
    # Messages are the lanes' to read: only the end of the connection is waited for.
    gone.register(channel.fileno(), getattr(select, "POLLRDHUP", select.POLLHUP))
    gone.poll()
    if over.wait(_LAST_WORD_S):
        return
    lost()
    os._exit(1)


def _open(stage: Stage, ledger: StageLedger, *, alone: bool) -> _Opened:
    forget_peak_memory()
    held = ExitStack()
    try:
        process = held.enter_context(stage.open())
    except Exception as error:
        if alone:
            raise
        logger.exception("stage %s could not be set up", stage.name)
        return _Opened(stage, ledger, _failing(error), held)
    return _Opened(stage, ledger, process, held)


def _failing(error: Exception) -> Process:
    def fail(block: Block) -> None:
        raise NeurosegError(f"a worker could not be set up: {type(error).__name__}: {error}") from error

    return fail
