"""Tables of volumes read box by box equal those of the whole volume, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from funlib.geometry import Roi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from neuroseg.evaluation import contingency as contingency_module
from neuroseg.evaluation.borders import near_boundary
from neuroseg.evaluation.boxes import Border, Overlap, box_shape, compare, compared_places
from neuroseg.evaluation.contingency import contingency
from neuroseg.evaluation.objects import object_errors
from neuroseg.evaluation.pieces import block_places
from neuroseg.geometry import slices, whole
from neuroseg.tables import Table
from neuroseg.volumes.volume import Volume

Labels = NDArray[np.uint64]


def volume_of(array: object) -> Volume:
    return Volume("labels", array, (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))


class Chunked:
    """An array in memory with a chunk shape."""

    def __init__(self, labels: Labels, chunks: tuple[int, int, int]) -> None:
        self.labels, self.chunks, self.shape, self.dtype = labels, chunks, labels.shape, labels.dtype

    def __getitem__(self, box: tuple[slice, slice, slice]) -> Labels:
        return self.labels[box]


def stored(labels: Labels, chunk: tuple[int, int, int]) -> Volume:
    return volume_of(Chunked(labels, chunk))


def blobs(seed: int, count: int, shape: tuple[int, int, int], width: float = 1.5) -> Labels:
    """Smooth labels, including 0."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((count, *shape)), (0, width, width, width))
    return noise.argmax(0).astype(np.uint64)


def equal(one: Table, other: Table) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    chunk=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    box_voxels=st.sampled_from([150, 700, 10**6]),
    roi=st.sampled_from([Roi((0, 0, 0), (16, 18, 20)), Roi((3, 0, 7), (9, 18, 5)), Roi((15, 17, 0), (1, 1, 20))]),
    shift=st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(-3, 3)),
    voxel_size_nm=st.sampled_from([(10.0, 10.0, 10.0), (40.0, 8.0, 8.0)]),
    border_nm=st.sampled_from([0.0, 8.0, 25.0]),
)
def test_boxes_give_the_tables_of_the_whole(
    seed: int,
    chunk: tuple[int, int, int],
    box_voxels: int,
    roi: Roi,
    shift: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float],
    border_nm: float,
) -> None:
    # The truth is larger than the segmentation and shifted. Truth outside the region also determines borders.
    shape, truth_roi = (16, 18, 20), Roi(shift, (16, 18, 20)).grow(4, 4)
    segments, truth = blobs(seed, 7, shape), blobs(seed + 1, 5, tuple(truth_roi.shape), 5)
    overlap = Overlap(roi, truth_roi)
    border = Border(border_nm, voxel_size_nm) if border_nm else None
    volume, true_volume = stored(segments, chunk), stored(truth, (5, 5, 5))
    (found,) = compare([volume], true_volume, overlap, (0, 3), border=border, box_voxels=box_voxels)
    inner = slices(roi, truth_roi.begin)
    counted = ~near_boundary(truth, voxel_size_nm, border_nm)[inner] if border_nm else None
    expected = contingency(segments[slices(roi)], truth[inner], (0, 3), counted=counted)
    assert equal(found, expected)
    places = compared_places(volume, true_volume, overlap, (0, 3), box_voxels=box_voxels)
    whole_places = block_places(
        segments[slices(roi)], truth[inner], (0, 3), read_roi=roi, write_roi=roi, volume_shape=shape
    )
    assert equal(places, whole_places)
    assert equal(object_errors(found, places, shape), object_errors(expected, whole_places, shape))


@settings(max_examples=60)
@given(
    chunk=st.tuples(*[st.integers(1, 200)] * 3),
    shape=st.tuples(*[st.integers(1, 500)] * 3),
    most=st.integers(1, 10**6),
)
def test_a_box_is_at_most_the_limit_and_close_to_it(
    chunk: tuple[int, int, int], shape: tuple[int, int, int], most: int
) -> None:
    box = box_shape(chunk, shape, most)
    assert 1 <= np.prod(box) <= most
    assert 2 * np.prod(box) > most or all(edge >= size for edge, size in zip(box, shape, strict=True))


def test_boxes_are_whole_chunks_if_chunks_are_small() -> None:
    assert box_shape((64, 64, 64), (5000, 5000, 5000), 4 * 2**20) == (128, 128, 256)
    assert box_shape((1, 8192, 8192), (100, 8192, 8192), 4 * 2**20) == (1, 2048, 2048)


def test_several_label_volumes_are_counted_in_one_pass_with_progress() -> None:
    labels = [blobs(seed, 4, (8, 9, 10)) for seed in (1, 2, 3)]
    first, second, truth = (stored(array, (4, 4, 4)) for array in labels)
    told: list[tuple[int, int]] = []
    overlap = Overlap(whole((8, 9, 10)), whole((8, 9, 10)))
    tables = compare(
        [first, second], truth, overlap, box_voxels=64, progress=lambda done, total: told.append((done, total))
    )
    assert equal(tables[0], contingency(labels[0], labels[2]))
    assert equal(tables[1], contingency(labels[1], labels[2]))
    assert told[-1] == (720, 720)
    assert len(told) > 10


class Endless:
    """Labels of any extent, computed on reading: cubes of `edge` voxels with 5 ids in turn."""

    chunks = (32, 32, 32)
    dtype = np.dtype(np.uint64)

    def __init__(self, edge: int, shape: tuple[int, int, int]) -> None:
        self.edge, self.shape = edge, shape

    def __getitem__(self, box: tuple[slice, slice, slice]) -> Labels:
        z, y, x = (np.arange(part.start, part.stop, dtype=np.uint64) // np.uint64(self.edge) for part in box)
        ids: Labels = (z[:, None, None] * 7 + y[:, None] * 13 + x) % np.uint64(5)
        return ids


@pytest.mark.parametrize("what", ["scores", "borders", "places"])
def test_memory_does_not_grow_with_the_volume(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contingency_module, "_PENDING_ROWS", 100)

    def peak(edge: int) -> int:
        shape = (edge, edge, edge)
        labels, truth = volume_of(Endless(17, shape)), volume_of(Endless(23, shape))
        overlap = Overlap(whole(shape), whole(shape))
        border = Border(20, (10.0, 10.0, 10.0)) if what == "borders" else None
        tracemalloc.start()
        if what == "places":
            compared_places(labels, truth, overlap, box_voxels=32**3)
        else:
            compare([labels, labels], truth, overlap, border=border, box_voxels=32**3)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(40)  # compiles
    # With three boxes along each edge, one box has context on each side.
    small, large = peak(96), peak(192)
    assert large < 1.1 * small
    assert large < 192**3 * 8 / 3, "a third of one of the volumes"
