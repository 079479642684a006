"""Files cut short or altered on disk: found when they are read, named, and never part of a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from scipy import ndimage

from neuroseg import pipeline
from neuroseg.errors import NeurosegError
from neuroseg.options import Options
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace

OFFSETS = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]

# An artifact, the stage that reads it, and what makes it again.
READERS = [
    ("provisional.zarr/c", "edges", "fragments"),
    ("fragments.zarr/c", "relabel", "edges"),
    ("entries", "edges", "fragments"),
    ("edges", "agglomeration", "edges"),
    ("nodes", "agglomeration", "edges"),
    ("merges/tree.parquet", "lookup", "agglomeration"),
    ("merges/nodes.parquet", "lookup", "agglomeration"),
    ("merges/lookup.npy", "relabel", "relabel"),
]


@pytest.fixture
def options(tmp_path: Path) -> Options:
    smooth = ndimage.gaussian_filter(np.random.default_rng(5).random((3, 20, 30, 34)), (0, 1.5, 2, 2))
    values = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    attributes = {"offsets": OFFSETS, "voxel_size": [10, 10, 10]}
    array = zarr.create_array(str(tmp_path / "A.zarr"), shape=values.shape, dtype="u1", attributes=attributes)
    array[:] = values
    given = {"affinities": str(tmp_path / "A.zarr"), "output": str(tmp_path / "w"), "blocks": "20,16,20"}
    return Options.model_validate({**given, "executor": "serial"})


def largest_file(path: Path) -> Path:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return max(files, key=lambda file: file.stat().st_size)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def alter(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def labels(workspace: Workspace) -> np.ndarray:
    return np.asarray(open_array(workspace.segmentation / "0")[:])


@pytest.mark.parametrize("damage", [cut_short, alter])
@pytest.mark.parametrize(("artifact", "reader", "maker"), READERS)
def test_damage_is_found_and_named(options: Options, artifact: str, reader: str, maker: str, damage) -> None:  # type: ignore[no-untyped-def]
    if artifact.endswith(".npy") and damage is alter:
        pytest.skip("a mapped array carries no checksum: it is written aside and renamed, so it is whole or not there")
    workspace, _ = pipeline.segment(options)
    expected = labels(workspace)
    file = largest_file(workspace.path / artifact)
    damage(file)
    workspace.ledger(reader, {}).forget_blocks()
    (workspace.path / "ledger" / "published").unlink()
    with pytest.raises(NeurosegError, match=f"stage {reader}|lookup.npy is missing or damaged"):
        pipeline.segment(options)
    if workspace.segmentation.exists():
        assert np.array_equal(labels(workspace), expected), "what is left is the whole of the last finished run"
    pipeline.segment(options, restart=maker)
    assert np.array_equal(labels(workspace), expected)
