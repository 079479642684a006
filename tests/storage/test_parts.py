"""Tables survive a round trip; damaged and missing ones are refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neuroseg.errors import DamagedError, MissingPartError, NeurosegError
from neuroseg.storage.parts import part_path, parts_in, read_part, read_table, remove_parts, write_table
from neuroseg.storage.publish import published
from neuroseg.tables import EDGES, empty

TABLE = {
    "u": np.array([1, 2**63], np.uint64),
    "v": np.array([2, 2**64 - 1], np.uint64),
    "contact_count": np.array([3, 4], np.uint64),
    "affinity_sum": np.array([5, 6], np.uint64),
    "affinity_max": np.array([7, 255], np.uint8),
}


def test_a_table_keeps_values_and_types(tmp_path: Path) -> None:
    write_table(tmp_path / "a" / "t.parquet", TABLE)
    read = read_table(tmp_path / "a" / "t.parquet", EDGES)
    for name, column in TABLE.items():
        assert read[name].dtype == column.dtype
        assert np.array_equal(read[name], column)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["t.parquet"]


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", empty(EDGES))
    assert read_table(tmp_path / "t.parquet", EDGES).keys() == EDGES.keys()


def test_a_truncated_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, TABLE)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(NeurosegError, match="damaged"):
        read_table(path, EDGES)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(NeurosegError, match=r"t\.parquet is missing"):
        read_table(tmp_path / "t.parquet", EDGES)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("old")

    def write_half() -> None:
        with published(path) as aside:
            aside.write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["text"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc, which is Linux")
def test_reading_a_table_starts_no_thread(tmp_path: Path) -> None:
    """A thread that releases a Python buffer while the process exits would abort it, sometimes, with exit code 134."""
    program = """
import os, sys
from pathlib import Path
from neuroseg.storage.parts import read_table
from neuroseg.tables import EDGES

before = len(os.listdir("/proc/self/task"))
read_table(Path(sys.argv[1]), EDGES)
print(len(os.listdir("/proc/self/task")) - before)
"""
    write_table(tmp_path / "t.parquet", TABLE)
    command = [sys.executable, "-c", program, str(tmp_path / "t.parquet")]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert found.stdout == "0\n"


def test_a_missing_part_and_a_damaged_part_raise_different_errors(tmp_path: Path) -> None:
    write_table(part_path(tmp_path / "edges", 7), TABLE)
    assert np.array_equal(read_part(tmp_path / "edges", 7, EDGES)["u"], TABLE["u"])
    with pytest.raises(MissingPartError, match="00000008") as missing:
        read_part(tmp_path / "edges", 8, EDGES)
    assert (missing.value.artifact, missing.value.block) == ("edges", 8)
    part_path(tmp_path / "edges", 7).write_bytes(b"PAR1")
    with pytest.raises(DamagedError, match="is damaged") as damaged:
        read_part(tmp_path / "edges", 7, EDGES)
    assert not isinstance(damaged.value, MissingPartError)


def test_no_folder_of_parts_has_more_than_some_thousand_files(tmp_path: Path) -> None:
    names = {0: "00000000", 4999: "00004999", 5000: "00001/00005000", 24_999_999: "04999/24999999"}
    names |= {25_000_000: "00001/05000/25000000", 99_999_999: "00003/19999/99999999"}
    for block, name in names.items():
        assert part_path(tmp_path, block) == tmp_path / f"{name}.parquet"
        write_table(part_path(tmp_path, block), TABLE)
    (tmp_path / ".00000003.parquet.8f.partial").write_bytes(b"half")
    assert list(parts_in(tmp_path)) == list(names)
    remove_parts(tmp_path, lambda block: block in (0, 5000))
    assert list(parts_in(tmp_path)) == [4999, 24_999_999, 25_000_000, 99_999_999]
    assert parts_in(tmp_path / "none") == {}
