"""The order of blocks: small examples, and random lattices compared with a simple implementation."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from funlib.geometry import Roi
from hypothesis import given
from hypothesis import strategies as st

from neuroseg.blocks import Block, Lattice, whole_lattice
from neuroseg.execution.block import Outcome
from neuroseg.execution.scheduler import RETRIES, Key, Schedule
from neuroseg.execution.task import Task
from neuroseg.geometry import Triple
from neuroseg.stage import Process
from neuroseg.storage.ledger import StageLedger


@dataclass(frozen=True)
class Toy:
    """A stage without files, on a lattice of its own."""

    name: str
    lattice: Lattice
    halo: Triple = (0, 0, 0)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    scope: str = ""
    identity: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self) -> None:
        """Write nothing."""

    def open(self) -> AbstractContextManager[Process]:
        """Set up nothing."""
        return nullcontext(lambda block: None)


def task(stage: Toy, indices: Iterable[int] | None = None) -> Task:
    wanted = stage.lattice.indices() if indices is None else indices
    blocks = [stage.lattice.block(index, stage.halo) for index in wanted]
    return Task(stage, blocks, StageLedger(Path("ledger") / stage.name, {}))


@pytest.fixture(scope="module", autouse=True)
def in_a_folder_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The schedule writes marks to the ledger."""
    with contextlib.chdir(tmp_path_factory.mktemp("schedule")):
        yield


ROW = whole_lattice((1, 1, 8), (1, 1, 2))
FIRST = Toy("first", ROW, outputs=("a",))
SECOND = Toy("second", ROW, halo=(0, 0, 1), inputs=("a",), outputs=("b",))


def take(schedule: Schedule, stage: str, *, done: bool = True) -> int | None:
    unit = schedule.next(stage)
    if unit is None:
        return None
    schedule.take_back(unit.key, Outcome() if done else Outcome("injected"))
    return unit.block.index


def test_a_block_comes_as_soon_as_those_that_it_reads_are_done() -> None:
    with Schedule([task(FIRST), task(SECOND)]) as schedule:
        assert not schedule.is_ready("second")
        assert [take(schedule, "first"), take(schedule, "second")] == [0, None]
        assert [take(schedule, "first"), take(schedule, "second"), take(schedule, "second")] == [1, 0, None]
        assert [take(schedule, "first"), take(schedule, "first")] == [2, 3]
        assert [take(schedule, "second") for _ in range(4)] == [1, 2, 3, None]
        assert schedule.is_over


def test_a_block_that_is_given_up_stops_only_those_that_read_it() -> None:
    with Schedule([task(FIRST), task(SECOND)]) as schedule:
        assert take(schedule, "first", done=False) == 0
        assert [take(schedule, "first") for _ in range(3)] == [1, 2, 3]
        assert [take(schedule, "first", done=False) for _ in range(RETRIES + 1)] == [0] * RETRIES + [None]
        assert [take(schedule, "second") for _ in range(3)] == [2, 3, None]
        assert (schedule.done("second"), schedule.failed("second"), schedule.left("second")) == (2, 0, 2)
        assert schedule.is_over


def test_blocks_that_are_not_given_count_as_done() -> None:
    with Schedule([task(FIRST, [3]), task(SECOND, [0, 2, 3])]) as schedule:
        assert [take(schedule, "second"), take(schedule, "second")] == [0, None]
        assert [take(schedule, "first"), take(schedule, "second"), take(schedule, "second")] == [3, 2, 3]
        assert schedule.is_over
    with Schedule([task(FIRST, []), task(SECOND, [1])]) as schedule:
        assert take(schedule, "second") == 1
        assert schedule.is_over
    with Schedule([]) as schedule:
        assert schedule.is_over


def test_a_block_waits_for_each_stage_that_it_reads() -> None:
    """Edges also read affinities. If these are recomputed, done fragments are not enough."""
    third = Toy("third", ROW, inputs=("a", "b"))
    with Schedule([task(FIRST, [2]), task(third)]) as schedule:
        in_hand = schedule.next("first")
        assert in_hand is not None
        assert [take(schedule, "third") for _ in range(4)] == [0, 1, 3, None]
        schedule.take_back(in_hand.key, Outcome())
        assert take(schedule, "third") == 2


def test_a_coarser_level_waits_for_the_voxels_that_it_halves() -> None:
    coarse = Toy("coarse", whole_lattice((1, 1, 8), (1, 1, 4)), inputs=("a",))
    with Schedule([task(FIRST), task(coarse)]) as schedule:
        assert [take(schedule, "first"), take(schedule, "coarse")] == [0, None]
        assert [take(schedule, "first"), take(schedule, "coarse"), take(schedule, "coarse")] == [1, 0, None]


def test_a_block_that_needs_a_part_to_come_waits_for_it() -> None:
    with Schedule([task(FIRST), task(SECOND)]) as schedule:
        take(schedule, "first")
        take(schedule, "first")
        early = schedule.next("second")
        assert early is not None
        assert early.early
        schedule.put_off(early.key, "a", 3)
        assert [take(schedule, "second"), take(schedule, "first"), take(schedule, "second")] == [None, 2, 1]
        assert [take(schedule, "first"), take(schedule, "second")] == [3, 0], "the put-off one first"
        last = schedule.next("second")
        assert last is not None
        assert not last.early


@pytest.mark.parametrize("part", [0, 99])
def test_a_part_that_does_not_come_is_looked_for_twice(part: int) -> None:
    with Schedule([task(FIRST), task(SECOND)]) as schedule:
        take(schedule, "first")
        take(schedule, "first")
        early = schedule.next("second")
        assert early is not None
        for is_early in (True, False):
            schedule.put_off(early.key, "a", part)
            again = schedule.next("second")
            assert again is not None
            assert (again.key, again.early) == (early.key, is_early)


def test_what_waits_for_a_part_that_is_given_up_is_left() -> None:
    with Schedule([task(FIRST), task(SECOND)], retries=0) as schedule:
        take(schedule, "first")
        take(schedule, "first")
        early = schedule.next("second")
        assert early is not None
        schedule.put_off(early.key, "a", 3)
        take(schedule, "first")
        take(schedule, "first", done=False)
        assert [take(schedule, "second"), take(schedule, "second")] == [1, None]
        assert schedule.is_over
        assert (schedule.done("second"), schedule.failed("second")) == (1, 0)


def test_planes_follow_the_axis_with_the_most_blocks() -> None:
    lattice = whole_lattice((2, 3, 40), (1, 1, 1))
    with Schedule([task(Toy("first", lattice))]) as schedule:
        columns = [lattice.block(take(schedule, "first") or 0).write_roi.begin[2] for _ in range(240)]
    assert columns == sorted(columns)


def test_it_is_told_which_blocks_were_done_at_the_first_try() -> None:
    reported: list[tuple[int, bool]] = []
    given_ = task(FIRST)
    with Schedule(
        [
            Task(
                given_.stage,
                given_.blocks,
                given_.ledger,
                done=lambda b, at_first: reported.append((b.index, at_first)),
            )
        ]
    ) as schedule:
        assert take(schedule, "first", done=False) == 0
        while take(schedule, "first") is not None:
            pass
    assert sorted(reported) == [(0, False), (1, True), (2, True), (3, True)]


triples = st.tuples(*[st.integers(1, 4)] * 3)


@given(st.data(), triples, triples, st.tuples(*[st.integers(0, 3)] * 3), triples)
def test_the_order_is_that_of_a_plain_reading(
    data: st.DataObject, counts: Triple, shape: Triple, halo: Triple, coarse_shape: Triple
) -> None:
    """Three stages with random lattices and regions, blocks that are already done, and blocks that always fail."""
    size = [count * width for count, width in zip(counts, shape, strict=True)]
    begin = [data.draw(st.integers(0, edge - 1)) for edge in size]
    roi = Roi(begin, [data.draw(st.integers(1, edge - first)) for edge, first in zip(size, begin, strict=True)])
    fine = Lattice((size[0], size[1], size[2]), shape, roi)
    coarse = Lattice(fine.volume_shape, coarse_shape, roi)
    stages = [
        Toy("first", fine, outputs=("a",)),
        Toy("second", fine, halo=halo, inputs=("a",), outputs=("b",)),
        Toy("third", coarse, inputs=("b",)),
    ]
    tasks = [task(stage, data.draw(st.sets(st.sampled_from(stage.lattice.indices())))) for stage in stages]
    every = [Key(one.name, block.index) for one in tasks for block in one.blocks]
    failing = data.draw(st.sets(st.sampled_from(every))) if every else set()
    seen: list[Key] = []
    with Schedule(tasks, retries=0) as schedule:
        while not schedule.is_over:
            ready = [one.name for one in tasks if schedule.is_ready(one.name)]
            unit = schedule.next(data.draw(st.sampled_from(ready)))
            assert unit is not None
            assert needed(tasks, unit.key) <= set(seen) - failing
            seen.append(unit.key)
            schedule.take_back(unit.key, Outcome("injected") if unit.key in failing else Outcome())
    assert len(seen) == len(set(seen))
    assert set(seen) <= set(every)
    # Whatever needs nothing failing, not even by way of blocks that were done before, is done.
    assert {key for key in every if not cone(tasks, key) & failing} <= set(seen)


def needed(tasks: list[Task], key: Key) -> set[Key]:
    """Return the given blocks of the earlier stage that a block reads."""
    return {each for each in touched(tasks, key) if any(each.number == b.index for b in task_of(tasks, each).blocks)}


def cone(tasks: list[Task], key: Key) -> set[Key]:
    """Return all blocks that a block depends on, directly or indirectly."""
    before = touched(tasks, key) if task_of(tasks, key).blocks else set()
    return before.union(*(cone(tasks, each) for each in before))


def task_of(tasks: list[Task], key: Key) -> Task:
    return next(one for one in tasks if one.name == key.stage)


def touched(tasks: list[Task], key: Key) -> set[Key]:
    """Return all blocks of the earlier stage, given or not, that a block reads."""
    number = [one.name for one in tasks].index(key.stage)
    if number == 0:
        return set()
    before, stage = tasks[number - 1], tasks[number].stage
    read = box(stage.lattice.block(key.number), stage, stage.halo)
    cells = range(math.prod(before.stage.lattice.counts))
    return {
        Key(before.name, index)
        for index in cells
        if overlap(read, box(before.stage.lattice.block(index), before.stage, (0, 0, 0)))
    }


def box(block: Block, stage: Any, halo: Triple) -> list[tuple[int, int]]:
    """Return begin and end of a block's cell with a halo along each axis, in voxels."""
    counts = stage.lattice.counts
    cell = (block.index // (counts[1] * counts[2]), block.index // counts[2] % counts[1], block.index % counts[2])
    return [
        (c * width - reach, (c + 1) * width + reach)
        for c, width, reach in zip(cell, stage.lattice.block_shape, halo, strict=True)
    ]


def overlap(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> bool:
    return all(max(a[0], b[0]) < min(a[1], b[1]) for a, b in zip(one, other, strict=True))


def test_blocks_that_are_left_out_cost_little() -> None:
    """The first and the last of 125,000 blocks can run without the others."""
    lattice = whole_lattice((50, 50, 50), (1, 1, 1))
    few = [0, 17, math.prod(lattice.counts) - 1]
    with Schedule([task(Toy("first", lattice), few)]) as schedule:
        assert [take(schedule, "first") for _ in range(4)] == [*few, None]
