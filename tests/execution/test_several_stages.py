"""Workers that serve several stages: which stage goes first, and when pools start and end."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from neuroseg.blocks import Block, Lattice, whole_lattice
from neuroseg.execution.pool import Launcher, Pool
from neuroseg.execution.workers import Allocation, WorkersExecutor
from tests.execution.test_workers import Answer, Message, Played, Say, Toy, honest, key_of, task_of


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
