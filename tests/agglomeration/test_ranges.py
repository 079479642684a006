"""Combining the parts of tables in ranges gives the same rows as combining all of them together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuroseg.agglomeration import reduction
from neuroseg.agglomeration.reduction import ReductionStage
from neuroseg.blocks import Lattice, whole_lattice
from neuroseg.errors import DamagedError
from neuroseg.geometry import parse_roi
from neuroseg.storage.parts import part_path, read_parts, read_table, write_table
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import EDGES, NODES, TABLES, Table, combined, concatenated

SHAPE = (40, 6, 8)
PLANE = 6 * 8


def edges(*rows: tuple[int, int, int]) -> Table:
    """Edges (u, v, contacts) whose affinities are all 10."""
    u, v, count = (np.array(column, np.uint64) for column in zip(*rows, strict=True))
    return {"u": u, "v": v, "contact_count": count, "affinity_sum": count * np.uint64(10),
            "affinity_max": np.full(len(u), 10, np.uint8)}  # fmt: skip


def stage_of(tmp_path: Path, blocks: Lattice, *tables: str) -> ReductionStage:
    return ReductionStage(Workspace(tmp_path), blocks, "upstream", tables or ("edges",))


def run(stage: ReductionStage) -> dict[str, Table]:
    """Reduce every range; returns the tables one after another."""
    with stage.open() as process:
        for block in stage.lattice.blocks():
            process(block)
    folders = {table: stage.workspace.reduced(table) for table in stage.tables}
    ranges = stage.lattice.indices()
    return {name: concatenated(read_parts(folder, ranges, TABLES[name]), TABLES[name])
            for name, folder in folders.items()}  # fmt: skip


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduction, "_PARTS_OF_A_RANGE", 1)


def test_a_small_volume_is_one_range(tmp_path: Path) -> None:
    assert stage_of(tmp_path, whole_lattice((250, 250, 250), (64, 64, 64))).lattice.counts == (1, 1, 1)


def test_a_large_volume_is_as_many_ranges_as_it_has_layers(tmp_path: Path) -> None:
    """Kasthuri15 in blocks of 256: 8 layers of 42 x 51 blocks."""
    lattice = stage_of(tmp_path, whole_lattice((1850, 10747, 12895), (256, 256, 256))).lattice
    assert lattice.block_shape == (256, 10747, 12895)
    assert len(lattice.indices()) == 8


def test_rows_of_a_pair_from_several_blocks_are_added(tmp_path: Path, small_ranges: None) -> None:
    stage = stage_of(tmp_path, whole_lattice(SHAPE, (20, 6, 8)))
    second = 20 * PLANE
    write_table(part_path(tmp_path / "edges", 0), edges((1, 7, 3), (second, second + 5, 1)))
    write_table(part_path(tmp_path / "edges", 1), edges((1, 7, 2), (second, second + 5, 4)))
    found = run(stage)["edges"]
    assert [found[name].tolist() for name in ("u", "v", "contact_count")] == [[1, second], [7, second + 5], [5, 5]]
    halves = [read_table(part_path(tmp_path / "reduced" / "edges", n), EDGES)["u"].tolist() for n in (0, 1)]
    assert halves == [[1], [second]]


def test_keys_beyond_the_region_belong_to_its_first_and_last_range(tmp_path: Path, small_ranges: None) -> None:
    blocks = Lattice(SHAPE, (10, 6, 8), parse_roi("10:30,0:6,0:8", SHAPE))
    least, most = (0, 1, 1), (2**64 - 2, 2**64 - 1, 1)
    for index in (1, 2):
        write_table(part_path(tmp_path / "edges", index), edges(least, most))
    found = run(stage_of(tmp_path, blocks))["edges"]
    assert [found[name].tolist() for name in ("u", "v", "contact_count")] == [[0, 2**64 - 2], [1, 2**64 - 1], [2, 2]]


def test_parts_without_rows_are_none(tmp_path: Path, small_ranges: None) -> None:
    stage = stage_of(tmp_path, whole_lattice(SHAPE, (20, 6, 8)))
    for index in (0, 1):
        write_table(part_path(tmp_path / "edges", index), {name: c[:0] for name, c in edges((1, 2, 3)).items()})
    assert {name: len(column) for name, column in run(stage)["edges"].items()} == dict.fromkeys(EDGES, 0)


PAIRS = st.tuples(st.integers(0, 40 * PLANE), st.integers(0, 40 * PLANE), st.integers(1, 9))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.lists(PAIRS, min_size=1, max_size=12), min_size=5, max_size=5))
def test_concatenated_ranges_equal_the_whole_table(
    parts: list[list[tuple[int, int, int]]], tmp_path: Path, small_ranges: None
) -> None:
    blocks = whole_lattice(SHAPE, (8, 6, 8))
    made = [combined([edges(*rows)], EDGES) for rows in parts]
    for index, table in enumerate(made):
        write_table(part_path(tmp_path / "edges", index), table)
        count = len(table["u"])
        nodes = {name: table["u"].astype(dtype) if name == "fragment" else np.ones(count, dtype)
                 for name, dtype in NODES.items()}  # fmt: skip
        write_table(part_path(tmp_path / "nodes", index), combined([nodes], NODES))
    found = run(stage_of(tmp_path, blocks, "edges", "nodes"))
    expected = combined(made, EDGES)
    for name in EDGES:
        np.testing.assert_array_equal(found["edges"][name], expected[name], err_msg=name)
    np.testing.assert_array_equal(found["nodes"]["fragment"], np.unique(expected["u"]))


def test_a_part_with_a_wrong_footer_is_damaged(tmp_path: Path, small_ranges: None) -> None:
    """The footer of a file has no checksum, and determines whether the rest is read."""
    stage = stage_of(tmp_path, whole_lattice(SHAPE, (20, 6, 8)))
    path, least = part_path(tmp_path / "edges", 0), 1234567
    write_table(path, edges((least, 2**40, 3), (least + 1, 2**40, 3)))
    write_table(part_path(tmp_path / "edges", 1), edges((1, 2, 3)))
    content, stored = path.read_bytes(), (least + 1).to_bytes(8, "little")
    end = content.rindex(b"PAR1") - 4 - int.from_bytes(content[-8:-4], "little")
    path.write_bytes(content[:end] + content[end:].replace(stored, least.to_bytes(8, "little")))
    assert pq.read_metadata(path).row_group(0).column(0).statistics.max == least
    found = "column u ranges from 1234567 to 1234568, but the file's footer states 1234567 to 1234567"
    with pytest.raises(DamagedError, match=found):
        run(stage)
