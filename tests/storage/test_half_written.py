"""Temporary files of killed processes are removed. Only folders of unfinished blocks are searched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from neuroseg.blocks import whole_lattice
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.arrays import create_array
from neuroseg.storage.half_written import remove_half_written
from neuroseg.storage.workspace import Workspace


def made(path: Path) -> Path:
    """Create a file and its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are listed."""
    listed: list[Path] = []
    scandir: Callable[..., Any] = os.scandir

    def listing(folder: Path) -> Any:
        listed.append(Path(folder))
        return scandir(folder)

    monkeypatch.setattr("neuroseg.storage.half_written.os.scandir", listing)
    return listed


def test_only_folders_of_unfinished_blocks_are_searched(tmp_path: Path, searched: list[Path]) -> None:
    array, parts = tmp_path / "fragments.zarr", tmp_path / "edges"
    create_array(array, shape=(40, 40, 40), dtype=np.uint64, block=(4, 4, 4), attributes={})
    made(parts / "00000001.parquet")
    block = whole_lattice((40, 40, 40), (4, 4, 4)).block(123, (0, 0, 0))
    z, y, x = (begin // 4 for begin in block.write_roi.begin)
    left = [
        made(array / "c" / f"{z}" / f"{y}" / f"{x}.8f.partial"),
        made(array / "zarr.8f.partial"),
        made(parts / ".00000123.parquet.8f.partial"),
    ]
    kept = [made(array / "c" / "0" / "0" / "0.8f.partial"), made(array / "c" / f"{z}" / f"{y}" / f"{x}")]
    (parts / "folder.partial").mkdir()
    remove_half_written([array, parts, tmp_path / "missing.zarr"], [block])
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)
    assert (parts / "folder.partial").is_dir()
    missing = tmp_path / "missing.zarr"
    expected = {array, array / "c" / f"{z}" / f"{y}", parts, missing}
    assert set(searched) == expected


def test_without_unfinished_blocks_nothing_is_searched(tmp_path: Path, searched: list[Path]) -> None:
    remove_half_written([tmp_path], [])
    assert searched == []


BLOCK = whole_lattice((16, 16, 16), (8, 8, 8)).block(3, (0, 0, 0))


@pytest.fixture
def options(tmp_path: Path) -> Options:
    attributes = {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], "voxel_size": [10, 10, 10]}
    array = zarr.create_array(str(tmp_path / "A.zarr"), shape=(3, 16, 16, 16), dtype="u1", attributes=attributes)
    array[:] = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 16), np.uint8)
    given = {"affinities": str(tmp_path / "A.zarr"), "output": str(tmp_path / "w"), "blocks": "8"}
    return Options.model_validate({**given, "executor": "serial"})


def test_the_next_run_removes_temporary_files_of_a_killed_one(options: Options) -> None:
    workspace, _ = pipeline.segment(options)
    ledger = workspace.ledger("edges", {})
    ledger.mark_begun(BLOCK)
    left = made(Path(str(workspace.edges)) / ".00000003.parquet.8f.partial")
    pipeline.segment(options)
    assert not left.exists()
    assert ledger.interrupted() == []


def test_temporary_files_of_an_interrupted_block_are_removed(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    from neuroseg.edges import stage

    def interrupted(path: Path, table: object) -> None:
        made(path.with_name(f".{path.name}.8f.partial"))
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.segment(options)
    workspace = Workspace(Path(options.output or ""))
    assert not list(workspace.path.rglob("*.partial"))
    assert (workspace.path / "ledger" / "edges" / "identity.yaml").exists()


def test_temporary_files_of_a_killed_worker_are_removed_after_a_retry(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuroseg.edges import stage

    write_table, died = stage.write_table, []

    def written(path: Path, table: Any) -> None:
        if path.name == "00000003.parquet" and not died:
            died.append(made(path.with_name(f".{path.name}.8f.partial")))
            workspace = Workspace(Path(options.output or ""))
            workspace.ledger("edges", {}).mark_lost(BLOCK, "its worker died")
        write_table(path, table)

    monkeypatch.setattr(stage, "write_table", written)
    workspace, _ = pipeline.segment(options)
    assert died
    assert not list(workspace.path.rglob("*.partial"))
    assert workspace.ledger("edges", {}).interrupted() == []
