"""Free memory of machine and control groups, and arrays in files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from neuroseg.storage import table_memory
from neuroseg.storage.free_memory import free_memory_bytes
from neuroseg.storage.table_memory import TableMemory, arrays_in_files

GIB = 2**30


def machine(root: Path, groups: str) -> Path:
    """A machine with 8 GiB free. `groups`: the control groups of the process."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {8 * GIB // 1024} kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    return root


def limit(folder: Path, most: str, used: int, inactive: int, *, first_version: bool = False) -> None:
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if first_version else ("memory.max", "memory.current")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(names, (most, str(used)), strict=True):
        (folder / name).write_text(content + "\n")
    (folder / "memory.stat").write_text(f"anon 5\n{'total_' if first_version else ''}inactive_file {inactive}\n")


def test_this_machine_has_free_memory() -> None:
    assert 2**26 < free_memory_bytes() < 2**50


def test_without_groups_the_machine_counts(tmp_path: Path) -> None:
    assert free_memory_bytes(machine(tmp_path, "0::/\n")) == 8 * GIB


def test_the_smallest_group_around_the_process_counts(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/slurm/job_7/step_0\n")
    limit(root / "sys/fs/cgroup/slurm/job_7/step_0", "max", 1, 0)
    limit(root / "sys/fs/cgroup/slurm/job_7", str(4 * GIB), 3 * GIB, GIB // 2)
    limit(root / "sys/fs/cgroup/slurm/job_8", str(GIB), GIB, 0)
    assert free_memory_bytes(root) == 4 * GIB - 3 * GIB + GIB // 2


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    root = machine(tmp_path, "5:cpu:/a\n4:memory:/a\n0::/\n")
    limit(root / "sys/fs/cgroup/memory/a", str(2 * GIB), GIB, 0, first_version=True)
    limit(root / "sys/fs/cgroup/cpu/a", "5", 5, 0, first_version=True)
    assert free_memory_bytes(root) == GIB


def test_in_a_container_only_the_root_group_is_visible(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/docker/abc\n")
    limit(root / "sys/fs/cgroup", str(GIB), 2 * GIB, 0)
    assert free_memory_bytes(root) == 0


def test_arrays_in_files_are_writable_and_leave_nothing(tmp_path: Path) -> None:
    new = arrays_in_files(tmp_path, small_bytes=0)
    record = np.dtype([("ends", np.int32, 2), ("score", np.float64)])
    for array in (new(5, np.int32), new((3, 2), np.uint64), new(4, record), new(0, np.uint8)):
        assert not array.view(np.ndarray).tobytes().strip(b"\0"), "zeros"
        array[...] = 1
        assert len(array) == 0 or array.flags.writeable
    assert not list(tmp_path.iterdir())


def test_small_arrays_stay_in_memory(tmp_path: Path) -> None:
    assert arrays_in_files(tmp_path / "not there")(1000, np.uint8).shape == (1000,)


def test_a_full_disk_is_an_error_at_once_that_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        arrays_in_files(tmp_path, small_bytes=0)(10, np.uint8)
    assert caught.value.filename == str(tmp_path)


@pytest.mark.parametrize(
    ("limit", "workers", "tasks", "expected"),
    [
        (None, 1, 1, 8_000),  # four fifths of what is free
        (None, 4, 2, 4_000),
        (1_000, 1, 1, 800),  # without what two programs need
        (1_000, 2, 8, 350),
        (300, 2, 1, 75),  # at least a quarter
        (50_000, 1, 1, 8_000),  # not more than there is
    ],
)
def test_tables_in_memory_do_not_exceed_the_share_of_a_task(
    limit: int | None, workers: int, tasks: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_memory, "free_memory_bytes", lambda: 10_000)
    monkeypatch.setattr(table_memory, "_BYTES_OF_A_PROGRAM", 100)
    memory = TableMemory(limit, workers)
    assert memory.allocator(expected, tmp_path, tasks) is np.empty
    assert memory.allocator(expected + 1, tmp_path, tasks) is not np.empty
