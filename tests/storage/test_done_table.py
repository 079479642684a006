"""The columns of done blocks: any sequence of marks gives the state that a dictionary gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroseg.storage import done_table
from neuroseg.storage.done_table import About, Done, DoneTable

RECORD = {
    "host": "a",
    "process": 1,
    "job": None,
    "device": "cpu",
    "voxels": 8,
    "peak_mib": 50,
    "time": 9.5,
    "seconds": 2,
}


def test_a_done_block_is_found_with_what_its_mark_states() -> None:
    table = DoneTable()
    table.add(7, "9f2c", ["1.830", "0.0"], 52, RECORD)
    assert (dict(table), 7 in table, 8 in table) == ({7: Done("9f2c", 52)}, True, False)
    assert table.are_done(np.array([6, 7, 8]), np.array([0x9F2C] * 3, np.uint64)).tolist() == [False, True, False]
    assert table.are_done(np.array([7]), np.array([0x9F2D], np.uint64)).tolist() == [False]
    assert [each.tolist() for each in table.counts(np.array([7]))] == [[[1, 0]], [[830, 0]]]
    found = table.records()
    assert (found.blocks.tolist(), found.times.tolist(), found.seconds.tolist()) == ([7], [9.5], [2.0])
    assert found.common[found.about[0]] == About("a", 1, None, "cpu", 8, 50, (1, 0))
    assert (found.voxels.tolist(), found.peak_mib.tolist()) == ([8], [50])


def test_blocks_with_fewer_artifacts_have_no_count_of_the_others() -> None:
    table = DoneTable()
    table.add(1, "a", ["1.10"], 0, {})
    assert len(table) == 1  # its row is in the columns now
    table.add(0, "b", ["2.20", "1.30"], 0, {})
    table.add(2, "c", [], 0, {})
    files, sizes = table.counts(np.array([0, 1, 2]))
    assert files.tolist() == [[2, 1], [1, -1], [-1, -1]]
    assert sizes.tolist() == [[20, 30], [10, 0], [0, 0]]


blocks = st.integers(0, 12)
events = st.one_of(
    st.tuples(st.just("add"), blocks, st.integers(1, 2**64 - 1)),
    st.tuples(st.just("remove"), st.lists(blocks, max_size=4), st.just(0)),
    st.tuples(st.just("release"), st.lists(blocks, max_size=4), st.just(0)),
    st.tuples(st.just("release_all"), st.just(0), st.just(0)),
    st.tuples(st.just("read"), st.just(0), st.just(0)),
)


@settings(max_examples=150)
@given(st.lists(events, max_size=40), st.integers(0, 5))
def test_a_table_and_a_dictionary_agree(made: list[tuple[str, object, int]], most_recent: int) -> None:
    table, expected, released = DoneTable(), dict[int, Done](), set[int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(done_table, "_MOST_RECENT", most_recent)
        for offset, (event, what, token) in enumerate(made):
            if event == "add":
                table.add(what, f"{token:x}", [f"1.{offset}"], offset, {"time": float(offset), "voxels": what})
                expected[what] = Done(f"{token:x}", offset)
                released.discard(what)
            elif event == "remove":
                table.remove(what)
                for block in what:
                    expected.pop(block, None)
                    released.discard(block)
            elif event == "release":
                table.release(what)
                released |= expected.keys() & set(what)
            elif event == "release_all":
                table.release_all()
                released = set(expected)
            else:
                assert len(table) == len(expected)
            assert [table.get(block) for block in range(13)] == [expected.get(block) for block in range(13)]
    for found in (table, DoneTable.from_arrays(table.arrays())):
        known = found.blocks
        assert dict(found) == expected
        assert known.tolist() == sorted(expected)
        assert found.released.tolist() == sorted(released)
        assert found.are_released(np.arange(13)).tolist() == [block in released for block in range(13)]
        assert found.lines(known).tolist() == [expected[block].offset for block in sorted(expected)]
        assert found.records().times.tolist() == [expected[block].offset for block in sorted(expected)]
        assert found.records().voxels.tolist() == sorted(expected)
        assert found.contain(np.arange(13)).tolist() == [block in expected for block in range(13)]
        assert found.counts(known)[1].tolist() == [[expected[block].offset] for block in sorted(expected)]
