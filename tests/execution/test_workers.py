"""The head's reactions to workers that send wrong messages, hang or die. Threads play the workers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from neuroseg.blocks import Block, Lattice, whole_lattice
from neuroseg.errors import DiskFullError, NeurosegError
from neuroseg.execution import pool as pool_module
from neuroseg.execution.block import Outcome
from neuroseg.execution.channel import Channel
from neuroseg.execution.local import LocalWorkers
from neuroseg.execution.pool import Launcher, Pool
from neuroseg.execution.scheduler import Schedule
from neuroseg.execution.task import Task
from neuroseg.execution.workers import Allocation, WorkersExecutor
from neuroseg.geometry import Triple
from neuroseg.stage import Process, Stage
from neuroseg.storage.ledger import StageLedger

Message = Mapping[str, Any]
Say = Callable[[Message], None]
Answer = Callable[[Message, Say], bool | None]


class Toy:
    """A stage of four blocks without files."""

    name = "toy"
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    halo: Triple = (0, 0, 0)
    scale: Triple = (1, 1, 1)
    scope = ""
    identity: Mapping[str, Any] = {}
    lattice = whole_lattice((4, 1, 1), (1, 1, 1))

    def prepare(self) -> None:
        """Write nothing."""

    def open(self) -> AbstractContextManager[Process]:
        """Set up nothing."""
        return nullcontext(lambda block: None)


class Played:
    """A launcher whose workers are threads, connected from the beginning. A worker ends if its answer is False."""

    readable = None

    def __init__(self, *answers: Answer) -> None:
        self._new, self.ended = [self._started(answer) for answer in answers], 0

    def _started(self, answer: Answer) -> Channel:
        near, far = socket.socketpair()
        threading.Thread(target=_play, args=(Channel.over(far), answer), daemon=True).start()
        return Channel.over(near)

    def scale(self, wanted: int, progress: int) -> None:
        """Replaces no worker."""

    def new_channels(self) -> list[Channel]:
        new, self._new = self._new, []
        return new

    def kill(self, channel: Channel, job: str | None) -> None:
        self.ended += 1

    def stop(self, *, force: bool) -> None:
        """The workers end with their connections."""


def _play(channel: Channel, answer: Answer) -> None:
    while (message := channel.receive()) is not None:
        if answer(message, channel.send) is False:
            break
    channel.close()


def key_of(message: Message) -> list[Any]:
    return [message["stage"], message["block"]]


def honest(message: Message, say: Say) -> None:
    if "open" in message:
        say({"job": None})
        say({"opened": message["open"]})
    if "block" in message:
        say({"begun": key_of(message)})
        say({"ended": key_of(message), "outcome": {}})


def run(launcher: Launcher, folder: Path, most: int = 2, timeout_s: float = 60) -> int:
    with Pool(lambda: launcher) as pool:
        pool.max_workers = most
        executor = WorkersExecutor({"toy": Allocation(pool, most)}, timeout_s)
        (done,) = executor.run([task_of(Toy(), folder)])
        return done


def task_of(stage: Stage, folder: Path) -> Task:
    blocks = list(stage.lattice.blocks(stage.halo))
    return Task(stage, blocks, StageLedger(folder / "ledger" / stage.name, {}))


@pytest.mark.parametrize(
    "said",
    [
        {"ended": ["toy", 99], "outcome": {}}, {"ended": ["toy", 0], "outcome": {"done": True}}, {"ended": True},
        {"begun": ["toy", "0"]}, {"what": 1},
    ],
)  # fmt: skip
def test_a_worker_that_speaks_of_other_blocks_is_let_go_and_its_block_done_by_another(
    tmp_path: Path, said: Message
) -> None:
    def liar(message: Message, say: Say) -> None:
        if "block" in message:
            say(said)
        else:
            honest(message, say)

    assert run(Played(liar, honest), tmp_path) == 4


def test_workers_that_hang_in_a_block_or_before_it_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "SETUP_TIMEOUT_S", 0.2)

    def never_ready(message: Message, say: Say) -> None:
        pass

    def never_done(message: Message, say: Say) -> None:
        if "open" in message:
            honest(message, say)

    launcher = Played(never_ready, never_done, honest)
    assert run(launcher, tmp_path, timeout_s=0.2) == 4
    assert launcher.ended == 2


def test_blocks_that_lost_a_worker_together_are_tried_apart(tmp_path: Path) -> None:
    taken: list[int] = []
    in_hand: set[int] = set()
    company: dict[int, set[int]] = {}

    def dies_with_two(message: Message, say: Say) -> bool | None:
        if "block" not in message:
            return honest(message, say)
        taken.append(message["block"])
        say({"begun": key_of(message)})
        return len(taken) < 2

    def slow(message: Message, say: Say) -> None:
        if "block" not in message:
            return honest(message, say)
        index = message["block"]
        in_hand.add(index)
        for each in in_hand:
            company.setdefault(each, set()).update(in_hand - {each})
        say({"begun": ["toy", index]})
        threading.Timer(0.3, done, [index, say]).start()
        return None

    def done(index: int, say: Say) -> None:
        in_hand.discard(index)
        say({"ended": ["toy", index], "outcome": {}})

    assert run(Played(dies_with_two, slow), tmp_path) == 4
    assert len(taken) == 2
    assert all(company[index] == set() for index in taken), "neither is in hand beside another block again"
    assert any(company.values()), "others are"


def test_where_everything_fails_little_is_tried_again(tmp_path: Path) -> None:
    many = Toy()
    many.lattice = whole_lattice((1000, 1, 1), (1, 1, 1))
    with Schedule([task_of(many, tmp_path)]) as schedule:
        tries = 0
        while (unit := schedule.next("toy")) is not None:
            tries += 1
            schedule.take_back(unit.key, Outcome("injected"))
        assert (schedule.failed("toy"), schedule.is_over) == (1000, True)
        assert tries == 1000
    with Schedule([task_of(many, tmp_path)]) as schedule:
        tries = 0
        while (unit := schedule.next("toy")) is not None:
            tries += 1
            schedule.take_back(unit.key, Outcome() if unit.block.index % 2 else Outcome("injected"))
        assert (schedule.failed("toy"), schedule.done("toy"), tries) == (500, 500, 500 + 3 * 500)


def test_a_full_disk_ends_the_stage(tmp_path: Path) -> None:
    def full(message: Message, say: Say) -> None:
        if "block" in message:
            say({"ended": key_of(message), "outcome": {"cause": "no space left on /disk", "is_disk_full": True}})
        else:
            honest(message, say)

    with pytest.raises(DiskFullError, match="no space left on /disk"):
        run(Played(full), tmp_path)


def test_workers_that_cannot_start_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    launcher = LocalWorkers(tmp_path, tmp_path / "logs", "compute")
    with pytest.raises(NeurosegError, match=r"the compute workers keep dying\nhint: read compute-000[01]\.log in"):
        run(launcher, tmp_path)


@dataclass(frozen=True)
class Named(Toy):
    """A toy with another name that may read another toy."""

    name: str = "toy"
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    lattice: Lattice = Toy.lattice


MAKER, READER = Named("maker", outputs=("a",)), Named("reader", inputs=("a",))


class Noted(Played):
    """Records when its workers are stopped."""

    def __init__(self, events: list[object], *answers: Answer) -> None:
        super().__init__(*answers)
        self.events = events

    def stop(self, *, force: bool) -> None:
        self.events.append("let go")


def test_a_pool_that_no_stage_needs_any_more_is_let_go_while_others_work(tmp_path: Path) -> None:
    """GPUs become free when all blocks are predicted, while later stages continue."""
    events: list[object] = []

    def slow(message: Message, say: Say) -> None:
        if "block" in message:
            time.sleep(0.4)
            events.append((message["stage"], message["block"]))
        honest(message, say)

    predicting, computing = Pool(lambda: Noted(events, honest)), Pool(lambda: Played(slow))
    predicting.max_workers = computing.max_workers = 1
    allocations = {"maker": Allocation(predicting, 1, last=True), "reader": Allocation(computing, 1)}
    tasks = [task_of(MAKER, tmp_path), task_of(READER, tmp_path)]
    assert WorkersExecutor(allocations).run(tasks) == [4, 4]
    assert events.index("let go") < events.index(("reader", 3))
    computing.stop(force=False)


def test_workers_are_sent_for_when_there_is_something_to_do(tmp_path: Path) -> None:
    """Workers that compute do not start before the first block for them can run."""
    done: list[int] = []

    def fail_all(message: Message, say: Say) -> None:
        if "block" in message:
            say({"begun": key_of(message)})
            say({"ended": key_of(message), "outcome": {"cause": "injected"}})
        else:
            honest(message, say)

    def launch() -> Launcher:
        done.append(1)
        return Played(honest)

    predicting, computing = Pool(lambda: Played(fail_all)), Pool(launch)
    predicting.max_workers = computing.max_workers = 1
    allocations = {"maker": Allocation(predicting, 1), "reader": Allocation(computing, 1)}
    assert WorkersExecutor(allocations).run([task_of(MAKER, tmp_path), task_of(READER, tmp_path)]) == [0, 0]
    assert done == []
    predicting.stop(force=False)


@pytest.mark.parametrize("waits", [True, False])
def test_a_stage_that_must_wait_lets_later_ones_go_first(tmp_path: Path, waits: bool) -> None:
    made, read, furthest = [], [], [0]

    def noting(message: Message, say: Say) -> None:
        if message.get("stage") == "reader":
            time.sleep(0.05)
        honest(message, say)

    def make(block: Block, at_first: bool) -> None:
        made.append(block.index)
        furthest[0] = max(furthest[0], len(made) - len(read))

    twelve = whole_lattice((12, 1, 1), (1, 1, 1))
    first = task_of(Named("maker", outputs=("a",), lattice=twelve), tmp_path)
    second = task_of(Named("reader", inputs=("a",), lattice=twelve), tmp_path)
    first = replace(first, done=make, must_wait=lambda: waits and len(made) - len(read) >= 2)
    second = replace(second, done=lambda block, at_first: read.append(block.index))
    predicting, computing = Pool(lambda: Played(noting)), Pool(lambda: Played(noting))
    predicting.max_workers = computing.max_workers = 1
    allocations = {"maker": Allocation(predicting, 1), "reader": Allocation(computing, 1)}
    assert WorkersExecutor(allocations).run([first, second]) == [12, 12]
    # Two are held, and two may be in the worker's hand.
    assert furthest[0] <= 4 if waits else furthest[0] >= 10
    for pool in (predicting, computing):
        pool.stop(force=False)


def test_a_slow_block_does_not_let_a_stage_that_must_wait_run_ahead(tmp_path: Path) -> None:
    """The reader needs all blocks. While a worker is slow with one of them, others would only fill the disk."""
    made: list[int] = []

    def slow_with_the_first(message: Message, say: Say) -> None:
        if message.get("stage") == "maker" and message.get("block") == 0:
            say({"begun": key_of(message)})
            time.sleep(0.6)
            say({"ended": key_of(message), "outcome": {}})
        else:
            honest(message, say)

    first = task_of(Named("maker", outputs=("a",), lattice=whole_lattice((12, 1, 1), (1, 1, 1))), tmp_path)
    second = task_of(Named("reader", inputs=("a",), lattice=whole_lattice((12, 1, 1), (12, 1, 1))), tmp_path)
    first = replace(first, done=lambda block, _: made.append(block.index), must_wait=lambda: len(made) >= 2)
    pool = Pool(lambda: Played(slow_with_the_first, slow_with_the_first))
    pool.max_workers = 2
    assert WorkersExecutor({name: Allocation(pool, 2) for name in ("maker", "reader")}).run([first, second]) == [12, 1]
    # Two are held, and two may be in the other worker's hand.
    assert made.index(0) <= 4
    pool.stop(force=False)


def test_a_worker_that_is_early_gets_its_block_again(tmp_path: Path) -> None:
    received: list[tuple[int, bool]] = []

    def early_once(message: Message, say: Say) -> None:
        if message.get("stage") == "reader":
            received.append((message["block"], message["early"]))
            if message["block"] == 0 and len(received) == 1:
                say({"begun": key_of(message)})
                say({"early": key_of(message), "needs": ["a", 3]})
                return
        honest(message, say)

    pool = Pool(lambda: Played(early_once))
    pool.max_workers = 1
    allocations = {"maker": Allocation(pool, 1), "reader": Allocation(pool, 1)}
    assert WorkersExecutor(allocations).run([task_of(MAKER, tmp_path), task_of(READER, tmp_path)]) == [4, 4]
    assert received[0] == (0, True)
    assert [block for block, _ in received].count(0) == 2
    pool.stop(force=False)
