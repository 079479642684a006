"""A damaged shard of an array can be overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from funlib.geometry import Roi

from neuroseg.storage.arrays import create_array, open_array, write_region


@pytest.mark.parametrize("lead", [(), (3,)])
@pytest.mark.parametrize("kept", [0, 20, 0.5, 0.999])
def test_a_damaged_shard_is_replaced(tmp_path: Path, lead: tuple[int, ...], kept: float) -> None:
    """zarr refuses to overwrite a shard whose table of chunks is damaged, although the whole shard is replaced."""
    path, rng = tmp_path / "a.zarr", np.random.default_rng(1)
    create_array(path, shape=(*lead, 100, 40, 40), dtype=np.uint8, block=(80, 40, 40), attributes={})
    array, roi = open_array(path, writable=True), Roi((80, 0, 0), (20, 40, 40))
    values = rng.integers(0, 255, (*lead, 100, 40, 40), np.uint8)
    write_region(array, Roi((0, 0, 0), (80, 40, 40)), values[..., :80, :, :])
    write_region(array, roi, values[..., 80:, :, :])
    assert np.array_equal(array[:], values)
    shard = path / "c" / ("0/1/0/0" if lead else "1/0/0")
    content = shard.read_bytes()
    shard.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    write_region(open_array(path, writable=True), roi, values[..., 80:, :, :])
    assert np.array_equal(open_array(path)[:], values)
    assert shard.read_bytes() == content


@pytest.mark.parametrize(
    ("shape", "names", "chunk"),
    [
        ((100, 40, 40), ("z", "y", "x"), (40, 40, 40)),
        ((3, 100, 40, 40), ("c", "z", "y", "x"), (3, 40, 40, 40)),
        ((12, 100, 40, 40), ("c", "z", "y", "x"), (1, 40, 40, 40)),
    ],
)
def test_axes_have_names_and_few_channels_share_a_chunk(
    tmp_path: Path, shape: tuple[int, ...], names: tuple[str, ...], chunk: tuple[int, ...]
) -> None:
    create_array(tmp_path / "a.zarr", shape=shape, dtype=np.uint8, block=(80, 40, 40), attributes={})
    array = open_array(tmp_path / "a.zarr")
    assert array.metadata.dimension_names == names
    assert array.chunks == chunk
    assert array.shards == (*shape[:-3], 80, 40, 40)


def test_one_chunk_for_each_block_needs_no_shards(tmp_path: Path) -> None:
    for shape in ((40, 40, 40), (3, 40, 40, 40)):
        create_array(tmp_path / "a.zarr", shape=shape, dtype=np.uint8, block=(40, 40, 40), attributes={})
        array = open_array(tmp_path / "a.zarr")
        assert (array.chunks, array.shards) == (shape, None)
