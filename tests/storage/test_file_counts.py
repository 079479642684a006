"""The files of many blocks are counted from one listing, with the same result as for each block."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from funlib.geometry import Roi

from neuroseg.blocks import Lattice
from neuroseg.storage.arrays import create_array, open_array
from neuroseg.storage.file_counts import file_counts
from neuroseg.storage.parts import part_path
from neuroseg.storage.stored import DOWNSAMPLING, artifact_at, sizes_in, stored_now

LATTICE = Lattice((20, 40, 34), (8, 16, 16), Roi((4, 0, 0), (16, 40, 34)))


def counts_of_each(place: Path, lattice: Lattice) -> list[tuple[int, int]]:
    artifact = artifact_at(place)
    assert artifact is not None
    size_of = sizes_in(artifact)
    return [tuple(stored_now(artifact, size_of, block)) for block in lattice.blocks()]


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("shard", [(8, 16, 16), (8, 8, 16)])
def test_shards_are_counted_for_their_blocks(
    tmp_path: Path, channels: tuple[int, ...], shard: tuple[int, int, int]
) -> None:
    place = tmp_path / "A.zarr"
    create_array(place, shape=(*channels, *LATTICE.volume_shape), dtype=np.uint8, block=shard, attributes={})
    values = np.random.default_rng(0).integers(0, 255, open_array(place).shape, np.uint8)
    values[..., :16, :16] = 0  # zeros are not stored
    open_array(place, writable=True)[:] = values
    (place / "c" / ".half.partial").write_bytes(b"x")
    artifact = artifact_at(place)
    assert artifact is not None
    files, sizes = file_counts(artifact, LATTICE.blocks())
    expected = counts_of_each(place, LATTICE)
    assert list(zip(files.tolist(), sizes.tolist(), strict=True)) == expected
    assert 0 < sum(files) < len(files) * 2


@pytest.mark.parametrize(("factors", "shard"), [((1, 2, 2), (4, 8, 8)), ((2, 2, 2), (2, 4, 8)), ((1, 4, 2), (8, 8, 8))])
def test_shards_of_a_level_are_counted_for_their_blocks(
    tmp_path: Path, factors: tuple[int, int, int], shard: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last case, a shard belongs to two blocks, and each block must be looked at."""
    place = tmp_path / "1"
    shape = [-(-size // factor) for size, factor in zip(LATTICE.volume_shape, factors, strict=True)]
    create_array(place, shape=shape, dtype=np.uint8, block=shard, attributes={DOWNSAMPLING: factors})
    values = np.random.default_rng(0).integers(1, 255, shape, np.uint8)
    values[:4] = 0
    open_array(place, writable=True)[:] = values
    artifact = artifact_at(place)
    assert artifact is not None
    slow = []

    def noted(*given: object) -> object:
        slow.append(given)
        return sizes_in(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("neuroseg.storage.file_counts.sizes_in", noted)
    files, sizes = file_counts(artifact, LATTICE.blocks())
    assert list(zip(files.tolist(), sizes.tolist(), strict=True)) == counts_of_each(place, LATTICE)
    assert bool(slow) == (factors == (1, 4, 2))
    assert files.any()


def test_parts_of_tables_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "edges"
    folder.mkdir()
    for index, size in ((0, 5), (4, 7), (9, 0), (9999, 3)):
        part_path(folder, index).parent.mkdir(exist_ok=True)
        part_path(folder, index).write_bytes(b"x" * size)
    (folder / ".00000001.parquet.ab12.partial").write_bytes(b"x")
    artifact = artifact_at(folder)
    assert artifact is not None
    files, sizes = file_counts(artifact, LATTICE.blocks())
    assert list(zip(files.tolist(), sizes.tolist(), strict=True)) == counts_of_each(folder, LATTICE)
    assert (int(files.sum()), int(sizes.sum())) == (3, 12)


def test_one_file_belongs_to_all_blocks(tmp_path: Path) -> None:
    place = tmp_path / "lookup.npy"
    place.write_bytes(b"12345")
    artifact = artifact_at(place)
    assert artifact is not None
    place.unlink()
    blocks = LATTICE.blocks()[:2]
    assert [each.tolist() for each in file_counts(artifact, blocks)] == [[0, 0], [0, 0]]
    place.write_bytes(b"12345")
    assert [each.tolist() for each in file_counts(artifact, blocks)] == [[1, 1], [5, 5]]
