"""Disks that are read-only, too small for a run, or become full during a run. The tests use small disks in memory."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

from neuroseg.cli.main import exit_code
from neuroseg.storage.arrays import open_array

SHAPE = (48, 64, 64)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A separate disk in memory; `remount` changes its size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


@pytest.fixture
def affinities(tmp_path: Path) -> str:
    """Affinities of noise: they give many fragments, and compress poorly."""
    attributes = {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], "voxel_size": [10, 10, 10]}
    array = zarr.create_array(str(tmp_path / "A.zarr"), shape=(3, *SHAPE), dtype="u1", attributes=attributes)
    array[:] = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), np.uint8)
    return str(tmp_path / "A.zarr")


def labels(workspace: Path) -> np.ndarray:
    return np.asarray(open_array(workspace / "segmentation.zarr" / "0")[:])


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    disk: Path, affinities: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["segment", "--affinities", affinities, "-o", str(disk / "w"), "--executor", "serial"]) == 2
    message = capfd.readouterr().err
    assert "has 1.0 MB free" in message
    assert "edges 88 kB" in message
    assert "--force" in message
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize("executor", ["serial", "local"])
def test_a_full_disk_ends_the_run_and_a_rerun_resumes(
    disk: Path, affinities: str, tmp_path: Path, executor: str, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "segment",
        "--affinities",
        affinities,
        "--blocks",
        "16,32,32",
        "--workers",
        "1",
        "--executor",
        executor,
    ]
    filled = [*arguments, "-o", str(disk / "w"), "--force"]
    remount(disk, "size=500k")
    assert exit_code(filled) == 1
    message = capfd.readouterr().err
    assert f"the disk is full: {disk}/w" in message
    assert "Traceback" not in message
    assert len(list((disk / "w" / "logs").rglob("*.err"))) <= 1, "the worker is not started again and again"
    assert not (disk / "w" / "segmentation.zarr").exists()
    remount(disk, "size=50m")
    arguments[-1] = "serial"
    assert exit_code([*arguments, "-o", str(disk / "w")]) == 0
    assert exit_code([*arguments, "-o", str(tmp_path / "w")]) == 0
    assert np.array_equal(labels(disk / "w"), labels(tmp_path / "w"))


def test_a_read_only_disk_is_refused(disk: Path, affinities: str, capfd: pytest.CaptureFixture[str]) -> None:
    remount(disk, "size=50m,ro")
    assert exit_code(["segment", "--affinities", affinities, "-o", str(disk / "w"), "--executor", "serial"]) == 2
    message = capfd.readouterr().err
    assert f"cannot write to the workspace {disk}/w: Read-only file system" in message
    assert "Traceback" not in message
