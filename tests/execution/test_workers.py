"""The head's reactions to workers that send wrong messages, hang or die. Threads play the workers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from neuroseg.blocks import whole_lattice
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
