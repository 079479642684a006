"""The loop of a worker: set up stages, process their blocks, report to the head, until the run is over.

Two threads take turns. While one completes its block (writes it), the other receives and begins the next.
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
from neuroseg.errors import MissingPartError, NeurosegError
from neuroseg.execution.block import forget_peak_memory, own_job, process_block
from neuroseg.execution.channel import Channel
from neuroseg.geometry import Triple
from neuroseg.stage import Process, Stage
from neuroseg.storage.workspace import Workspace

Find = Callable[[str], Stage]
"""find(name) returns a stage of the run."""

# Time for a thread to read the message `end` after the head has closed the connection.
_END_MESSAGE_TIMEOUT_S = 0.3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Opened:
    """A stage that is set up. Closing `held` closes it."""

    stage: Stage
    halo: Triple
    process: Process
    held: ExitStack


def serve(
    channel: Channel,
    workspace: Workspace,
    find: Find,
    *,
    exit_on_setup_error: bool,
    on_lost_head: Callable[[], None] = lambda: None,
) -> None:
    """Carry out the head's messages until the run is over.

    If a stage cannot be set up, its blocks fail with that error. With `exit_on_setup_error`, the process exits instead:
    other machines may be able to set it up. If the connection to the head is lost, calls `on_lost_head` and exits in
    the middle of a block. This is safe because blocks are atomic.
    """
    channel.send({"job": own_job()})
    threads = _Threads(channel, workspace, find, exit_on_setup_error)
    for act in (lambda: _exit_when_disconnected(channel, threads.over, on_lost_head), threads.run):
        threading.Thread(target=_run_or_exit, args=(act,), daemon=True).start()
    threads.run()
    channel.close()


class _Threads:
    """The loop of both threads, and their shared state: the lock for receiving, and the stages that are set up."""

    def __init__(self, channel: Channel, workspace: Workspace, find: Find, exit_on_setup_error: bool) -> None:
        self._channel, self._workspace = channel, workspace
        self._find, self._exit_on_setup_error = find, exit_on_setup_error
        self._lock = threading.Lock()
        self._opened: dict[str, _Opened] = {}
        self.over = threading.Event()

    def run(self) -> None:
        """Run the loop of one thread."""
        while True:
            with ExitStack() as turn:
                turn.enter_context(self._lock)
                if self.over.is_set():
                    return
                match self._channel.receive():
                    case {"open": str(name)}:
                        self._opened[name] = _open(self._find(name), exit_on_setup_error=self._exit_on_setup_error)
                        self._channel.send({"opened": name})
                    case {"stage": str(name), "block": int(index), "early": bool(early)}:
                        self._process(self._opened[name], index, early, begun=turn.close)
                    case {"close": str(name)}:
                        self._opened.pop(name).held.close()
                    case {"end": _}:
                        self.over.set()
                    case _:
                        threading.Event().wait()  # the head is gone: `_exit_when_disconnected` ends the process

    def _process(self, opened: _Opened, index: int, early: bool, begun: Callable[[], None]) -> None:
        """Process a block and report the result. `begun` lets the other thread receive."""
        stage = opened.stage
        key = [stage.name, index]

        def on_begun() -> None:
            self._channel.send({"begun": key})
            begun()

        block = stage.lattice.block(index, opened.halo)
        try:
            outcome = process_block(opened.process, block, stage, self._workspace, begun=on_begun, early=early)
            self._channel.send({"ended": key, "outcome": vars(outcome)})
        except MissingPartError as error:
            self._channel.send({"early": key, "needs": [error.artifact, error.block]})


def _run_or_exit(act: Callable[[], None]) -> None:
    """Run a thread. If it fails, exit the process."""
    try:
        act()
    except BaseException:
        logger.exception("this worker exits because of an error")
        os._exit(1)


def _exit_when_disconnected(channel: Channel, over: threading.Event, on_lost_head: Callable[[], None]) -> None:
    """Exit the process when the other end of the channel closes, unless the run is over."""
    gone = select.poll()
    # Wait only for the end of the connection. The other threads read the messages.
    gone.register(channel.fileno(), getattr(select, "POLLRDHUP", select.POLLHUP))
    gone.poll()
    if over.wait(_END_MESSAGE_TIMEOUT_S):
        return
    on_lost_head()
    os._exit(1)


def _open(stage: Stage, *, exit_on_setup_error: bool) -> _Opened:
    forget_peak_memory()
    held = ExitStack()
    try:
        process = held.enter_context(stage.open())
    except Exception as error:
        if exit_on_setup_error:
            raise
        logger.exception("cannot set up stage %s", stage.name)
        return _Opened(stage, stage.halo, _failing(stage, error), held)
    return _Opened(stage, stage.halo, process, held)


def _failing(stage: Stage, error: Exception) -> Process:
    def fail(block: Block) -> None:
        raise NeurosegError(f"a worker cannot set up stage {stage.name}: {type(error).__name__}: {error}") from error

    return fail
