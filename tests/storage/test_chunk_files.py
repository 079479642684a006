"""Files of arrays that are read and written without zarr are those of zarr."""

from __future__ import annotations

from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from funlib.geometry import Roi
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, ZstdCodec

from neuroseg.storage.arrays import create_array, open_array, read_region, write_region
from neuroseg.storage.chunk_files import chunk_files, read_box

SHAPE = (50, 40, 70)
LEADS: list[tuple[int, ...]] = [(), (3,), (5,)]


def some_values(seed: int, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[np.generic]:
    """Blobs of values between empty chunks."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 255, shape).astype(dtype)
    values[..., :20, :, :33] = 0
    return values


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint64])
@pytest.mark.parametrize("block", [(32, 32, 32), (16, 40, 70), (50, 40, 70), (64, 64, 64)])
def test_written_files_have_the_bytes_of_zarr(
    tmp_path: Path, lead: tuple[int, ...], dtype: type[np.generic], block: tuple[int, ...]
) -> None:
    values = some_values(1, (*lead, *SHAPE), dtype)
    for name in ("ours", "theirs"):
        create_array(tmp_path / name, shape=(*lead, *SHAPE), dtype=dtype, block=block, attributes={})
    open_array(tmp_path / "theirs", writable=True)[:] = values
    write_region(open_array(tmp_path / "ours", writable=True), Roi((0, 0, 0), SHAPE), values)
    assert files_in(tmp_path / "ours") == files_in(tmp_path / "theirs")
    assert any(values.nbytes > 0 and "c/" in name for name in files_in(tmp_path / "ours"))
    np.testing.assert_array_equal(open_array(tmp_path / "ours")[:], values)


@settings(max_examples=60, deadline=None)
@given(
    begin=st.tuples(st.integers(0, 49), st.integers(0, 39), st.integers(0, 69)),
    size=st.tuples(*[st.integers(1, 70)] * 3),
    lead=st.sampled_from(LEADS),
    block=st.sampled_from([(16, 40, 70), (32, 32, 32)]),
)
def test_any_box_is_read_as_by_zarr(
    tmp_path_factory: pytest.TempPathFactory, begin: tuple[int, ...], size: tuple[int, ...], lead: tuple[int, ...],
    block: tuple[int, ...],
) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("array") / "a.zarr"
    values = some_values(2, (*lead, *SHAPE), np.uint64)
    create_array(path, shape=(*lead, *SHAPE), dtype=np.uint64, block=block, attributes={})
    array = open_array(path, writable=True)
    array[:] = values
    roi = Roi(begin, [min(n, whole - b) for n, whole, b in zip(size, SHAPE, begin, strict=True)])
    inside = tuple(slice(b, e) for b, e in zip(roi.begin, roi.end, strict=True))
    np.testing.assert_array_equal(read_region(array, roi), values[(..., *inside)])
    if lead:
        np.testing.assert_array_equal(read_box(array, (1, *inside)), values[(1, *inside)])


@pytest.mark.parametrize("begin", [(0, 0, 0), (8, 3, 40)])
def test_a_part_of_a_shard_is_replaced_and_the_rest_kept(tmp_path: Path, begin: tuple[int, ...]) -> None:
    values, roi = some_values(3, SHAPE, np.uint64), Roi(begin, (10, 20, 25))
    inside = tuple(slice(b, e) for b, e in zip(roi.begin, roi.end, strict=True))
    create_array(tmp_path / "a.zarr", shape=SHAPE, dtype=np.uint64, block=(32, 32, 32), attributes={})
    array = open_array(tmp_path / "a.zarr", writable=True)
    expected = np.zeros(SHAPE, np.uint64)
    for factor in (1, 2):
        write_region(array, roi, values[inside] * np.uint64(factor))
        expected[inside] = values[inside] * np.uint64(factor)
        np.testing.assert_array_equal(array[:], expected)
    write_region(array, Roi((0, 0, 0), (9, 10, 11)), values[:9, :10, :11] + np.uint64(1))
    expected[:9, :10, :11] = values[:9, :10, :11] + np.uint64(1)
    np.testing.assert_array_equal(array[:], expected)


def test_a_region_of_zeros_removes_its_file(tmp_path: Path) -> None:
    create_array(tmp_path / "a.zarr", shape=(32, 32, 64), dtype=np.uint8, block=(32, 32, 32), attributes={})
    array = open_array(tmp_path / "a.zarr", writable=True)
    write_region(array, Roi((0, 0, 0), (32, 32, 64)), np.ones((32, 32, 64), np.uint8))
    write_region(array, Roi((0, 0, 0), (32, 32, 32)), np.zeros((32, 32, 32), np.uint8))
    assert sorted(file for file in files_in(tmp_path / "a.zarr") if "c/" in file) == ["c/0/0/1"]


@pytest.mark.parametrize(
    "codecs",
    [
        {"compressors": None},
        {"compressors": ZstdCodec(level=3)},
        {"compressors": BloscCodec()},
        {"compressors": GzipCodec()},
        {"compressors": None, "serializer": BytesCodec(endian="big")},
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "<u2", "f4", "bool"])
def test_arrays_of_other_writers_are_read(tmp_path: Path, codecs: dict[str, object], dtype: str) -> None:
    values = np.random.default_rng(4).integers(0, 2, (10, 20, 30)).astype(dtype)
    path = str(tmp_path / "a.zarr")
    array = zarr.create_array(path, shape=values.shape, dtype=dtype, chunks=(8, 8, 8), fill_value=1, **codecs)  # type: ignore[arg-type]
    array[:] = values
    (tmp_path / "a.zarr" / "c" / "0" / "0" / "0").unlink()
    values[:8, :8, :8] = 1
    for index in ((slice(None),) * 3, (slice(3, 9), 5, slice(-4, None)), (slice(0, 9, 2), 1, 2)):
        np.testing.assert_array_equal(read_box(array, index), values[index])


def test_a_damaged_chunk_raises_the_error_of_zarr(tmp_path: Path) -> None:
    create_array(tmp_path / "a.zarr", shape=SHAPE, dtype=np.uint8, block=(32, 32, 32), attributes={})
    array, roi = open_array(tmp_path / "a.zarr", writable=True), Roi((0, 0, 0), SHAPE)
    assert chunk_files(array) is not None
    write_region(array, roi, some_values(5, SHAPE, np.uint8))
    file = tmp_path / "a.zarr" / "c" / "1" / "1" / "1"
    content = bytearray(file.read_bytes())
    for place in (20, len(content) - 10):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises((ValueError, RuntimeError)):
            read_region(array, roi)


@pytest.mark.parametrize("field", [0, 1])
def test_an_index_that_points_beyond_its_file_raises_an_error(tmp_path: Path, field: int) -> None:
    create_array(tmp_path / "b.zarr", shape=(64, 64, 64), dtype=np.uint8, block=(64, 64, 128), attributes={})
    array = open_array(tmp_path / "b.zarr", writable=True)
    write_region(array, Roi((0, 0, 0), (64, 64, 64)), np.ones((64, 64, 64), np.uint8))
    file = tmp_path / "b.zarr" / "c" / "0" / "0" / "0"
    content = file.read_bytes()
    index = np.frombuffer(content[-36:-4], "<u8").copy()
    index[field] = 2**62
    file.write_bytes(content[:-36] + index.tobytes() + google_crc32c.value(index.tobytes()).to_bytes(4, "little"))
    with pytest.raises((ValueError, RuntimeError, OverflowError, MemoryError, OSError)):
        read_region(array, Roi((0, 0, 0), (64, 64, 64)))


def test_a_chunk_with_too_few_values_raises_an_error(tmp_path: Path) -> None:
    create_array(tmp_path / "a.zarr", shape=(32, 32, 32), dtype=np.uint8, block=(32, 32, 32), attributes={})
    array, roi = open_array(tmp_path / "a.zarr", writable=True), Roi((0, 0, 0), (32, 32, 32))
    write_region(array, roi, np.ones((32, 32, 32), np.uint8))
    (tmp_path / "a.zarr" / "c" / "0" / "0" / "0").write_bytes(Zstd(level=1, checksum=True).encode(bytes(100)))
    with pytest.raises((ValueError, RuntimeError)):
        read_region(array, roi)
