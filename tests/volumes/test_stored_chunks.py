"""Chunks that are not stored are counted, and those that lie elsewhere are refused: both would read as zeros."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from neuroseg.errors import InputError
from neuroseg.volumes import stored_chunks as chunks
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.input_checks import require_stored
from neuroseg.volumes.stored_chunks import StoredChunks, enclosed, stored_chunks

VOXELS = {"voxel_size": [10, 10, 10]}


def array_of(path: Path, **more: Any) -> Any:
    values = np.random.default_rng(0).integers(1, 255, (40, 60, 60), np.uint8)
    given = {"chunks": (20, 20, 20), "attributes": VOXELS, **more}
    array = zarr.create_array(str(path), shape=values.shape, dtype="u1", **given)
    array[:] = values
    return array


@pytest.mark.parametrize("shards", [None, (20, 40, 60)])
def test_stored_chunks_are_counted(tmp_path: Path, shards: tuple[int, ...] | None) -> None:
    array_of(tmp_path / "v.zarr", shards=shards)
    shutil.rmtree(tmp_path / "v.zarr" / "c" / "1")
    found = stored_chunks(open_any(str(tmp_path / "v.zarr")).array)
    expected = 18 if shards is None else 4
    assert found == StoredChunks(expected // 2, expected, expected)
    assert found.likely_incomplete
    assert str(found) == f"{expected // 2} of {expected} chunks stored"


def test_only_the_chunks_of_one_channel_are_counted(tmp_path: Path) -> None:
    array = zarr.create_array(str(tmp_path / "v.zarr"), shape=(2, 8, 8, 8), dtype="u1", chunks=(1, 8, 4, 8))
    array[1] = 7
    assert stored_chunks(array, [(0, 0)]) == StoredChunks(0, 2, 2)
    assert stored_chunks(array, [(0, 1)]) == StoredChunks(2, 2, 2)


def test_a_large_grid_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_MOST_CHECKED", 300)
    monkeypatch.setattr(chunks, "_SAMPLED", 200)
    array = zarr.create_array(str(tmp_path / "v.zarr"), shape=(16, 16, 16), dtype="u1", chunks=(2, 2, 2))
    array[:8] = 1
    found = stored_chunks(array)
    assert found is not None
    assert (found.expected, found.checked) == (512, 200)
    assert abs(found.stored - 256) < 10
    assert str(found).endswith(" of 512 chunks stored (estimated from 200 chunks)")


def test_holes_are_not_empty_borders() -> None:
    border = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    assert enclosed(border) == 0
    hole = np.array([[0, 1, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1]], bool)
    assert enclosed(hole) == 1
    assert StoredChunks(999, 1000, 1000, enclosed=1).likely_incomplete
    assert not StoredChunks(960, 1000, 1000).likely_incomplete
    assert StoredChunks(900, 1000, 1000).likely_incomplete


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("separator", [".", "/"])
def test_chunks_under_the_other_separator_are_refused(tmp_path: Path, zarr_format: int, separator: str) -> None:
    path, file = tmp_path / "old.zarr", ".zarray" if zarr_format == 2 else "zarr.json"
    encoding: Any = {"name": "v2" if zarr_format == 2 else "default", "separator": separator}
    array_of(path, zarr_format=zarr_format, chunk_key_encoding=encoding)
    open_any(str(path))
    other = "." if separator == "/" else "/"
    described = json.loads((path / file).read_text())
    if zarr_format == 2:
        described["dimension_separator"] = other
    else:
        described["chunk_key_encoding"]["configuration"]["separator"] = other
    (path / file).write_text(json.dumps(described))
    with pytest.raises(InputError, match=r"stores its chunks as .*\nhint: set .*separator to"):
        open_any(str(path))


def test_a_level_with_nested_chunks_is_refused(tmp_path: Path) -> None:
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [10, 10, 10]}]
    image = {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    zarr.open_group(str(tmp_path / "i.zarr"), mode="w", zarr_format=2, attributes={"multiscales": [image]})
    path = tmp_path / "i.zarr" / "0"
    array_of(path, zarr_format=2, chunk_key_encoding={"name": "v2", "separator": "/"})
    described = json.loads((path / ".zarray").read_text())
    del described["dimension_separator"]
    (path / ".zarray").write_text(json.dumps(described))
    with pytest.raises(InputError, match='set dimension_separator to "/"'):
        open_any(str(tmp_path / "i.zarr"))


def test_none_stored_is_refused_and_many_missing_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zarr.create_array(str(tmp_path / "empty.zarr"), shape=(8, 8, 8), dtype="u1", chunks=(4, 4, 4), attributes=VOXELS)
    empty = open_any(str(tmp_path / "empty.zarr"))
    with pytest.raises(InputError, match="0 of 8 chunks stored"):
        require_stored(empty, force=False)
    require_stored(empty, force=True)
    assert "0 of 8 chunks stored" in caplog.text
    caplog.clear()
    array_of(tmp_path / "v.zarr")
    require_stored(open_any(str(tmp_path / "v.zarr")), force=False)
    assert not caplog.text
    shutil.rmtree(tmp_path / "v.zarr" / "c" / "0")
    require_stored(open_any(str(tmp_path / "v.zarr")), force=False)
    assert "9 of 18 chunks stored" in caplog.text


def virtual(folder: Path) -> str:
    """Two sections, each from a file of its own."""
    layout = h5py.VirtualLayout((2, 8, 8), "u1")
    for z in range(2):
        with h5py.File(folder / f"s{z}.h5", "w") as file:
            file["d"] = np.full((8, 8), z + 1, np.uint8)
        layout[z] = h5py.VirtualSource(f"s{z}.h5", "d", shape=(8, 8))
    with h5py.File(folder / "v.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    return f"{folder / 'v.h5'}:raw"


def test_a_virtual_dataset_needs_its_sources(tmp_path: Path) -> None:
    address = virtual(tmp_path)
    volume = open_any(address)
    assert volume.read(volume.roi)[:, 0, 0].tolist() == [1, 2]
    volume.array.file.close()
    (tmp_path / "s1.h5").unlink()
    with pytest.raises(InputError, match=r"its source s1.h5:d is missing"):
        open_any(address)
    with h5py.File(tmp_path / "s1.h5", "w") as file:
        file["other"] = 1
    with pytest.raises(InputError, match=r"its source s1.h5:d is missing"):
        open_any(address)


def test_hdf5_chunks_are_counted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        chunked = file.create_dataset("chunked", (8, 8, 8), "u1", chunks=(4, 4, 4))
        chunked[:4] = 1
        file.create_dataset("plain", data=np.ones((8, 8, 8), np.uint8))
        file.create_dataset("never", (8, 8, 8), "u1")
    for name, counts in (("chunked", (4, 8)), ("plain", (1, 1)), ("never", (0, 1))):
        found = stored_chunks(open_any(f"{tmp_path / 'v.h5'}:{name}").array)
        assert found is not None
        assert (found.stored, found.expected) == counts
