"""Cached regions equal the array, every chunk is read once, and memory is bounded."""

from __future__ import annotations

import numpy as np
from funlib.geometry import Roi
from hypothesis import given, settings
from hypothesis import strategies as some

from neuroseg.geometry import slices
from neuroseg.volumes.chunk_cache import bytes_of_chunks, cached_read

SHAPE = (70, 100, 130)
VALUES = np.random.default_rng(0).integers(0, 256, (3, *SHAPE)).astype(np.uint8)


class Counted:
    """Reads `VALUES` and records the regions."""

    def __init__(self) -> None:
        self.asked: list[Roi] = []

    def __call__(self, roi: Roi) -> np.ndarray:
        self.asked.append(roi)
        return VALUES[(slice(None), *slices(roi))].copy()  # as zarr does: a new array for each read


def boxes() -> some.SearchStrategy[Roi]:
    def box(ends: list[tuple[int, int]]) -> Roi:
        return Roi([min(pair) for pair in ends], [abs(a - b) + 1 for a, b in ends])

    return (
        some.tuples(*(some.tuples(some.integers(0, n - 1), some.integers(0, n - 1)) for n in SHAPE)).map(list).map(box)
    )


@settings(max_examples=60, deadline=None)
@given(some.lists(boxes(), min_size=1, max_size=6), some.sampled_from([1, 9, 1000]), some.sampled_from([1, 2]))
def test_any_sequence_of_regions_is_read_right(regions: list[Roi], most: int, threads: int) -> None:
    chunk = (32, 32, 32)
    read = cached_read(Counted(), shape=SHAPE, chunk=chunk, voxel_bytes=3, kept_bytes=most * 3 * 32**3, threads=threads)
    for roi in regions:
        found = read(roi)
        assert np.array_equal(found, VALUES[(slice(None), *slices(roi))])
        found[:] = 0  # the caller may change its result


def test_overlapping_blocks_read_every_chunk_once_along_a_row() -> None:
    counted = Counted()
    read = cached_read(counted, shape=SHAPE, chunk=(32, 32, 32), voxel_bytes=3)
    for x in range(0, 128, 32):
        read(Roi((0, 0, max(0, x - 5)), (32, 32, min(42, 130 - max(0, x - 5)))))
    assert sum(roi.size for roi in counted.asked) == 32 * 32 * 130
    read(Roi((0, 0, 0), (32, 32, 130)))
    assert sum(roi.size for roi in counted.asked) == 32 * 32 * 130


def test_memory_is_bounded_and_large_regions_are_read_as_they_are() -> None:
    counted = Counted()
    read = cached_read(counted, shape=SHAPE, chunk=(32, 32, 32), voxel_bytes=3, kept_bytes=4 * 3 * 32**3)
    for x in (0, 32, 64, 96, 0):
        read(Roi((0, 0, x), (20, 20, 20)))
        assert len(read._kept) <= 4  # type: ignore[attr-defined]
    assert len(counted.asked) == 4, "the first is still there"
    large = Roi((0, 0, 0), (64, 64, 64))
    read(large)
    assert counted.asked[-1] == large
    assert len(read._kept) <= 4  # type: ignore[attr-defined]


def test_small_and_large_chunks_are_left_alone() -> None:
    counted = Counted()
    for chunk in ((8, 64, 64), (64, 64, 512)):
        assert cached_read(counted, shape=SHAPE, chunk=chunk, voxel_bytes=1) is counted


def test_the_chunks_of_a_region_are_counted_wherever_it_lies() -> None:
    assert bytes_of_chunks((1, 33, 34), (32, 32, 32), 3) == 3 * 32 * 64 * 96
