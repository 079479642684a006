"""Regions of labels at levels of their pyramid, and the boxes of segments, for stored and computed levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from funlib.geometry import Roi

from neuroseg.checks import label_levels
from neuroseg.checks.label_levels import StoredLabels, aligned, box_of, labels_at, segments_of
from neuroseg.segmentation.relabel import downsampled
from neuroseg.storage.arrays import create_array, open_array
from neuroseg.volumes.metadata import array_attributes
from neuroseg.volumes.placement import Grid
from neuroseg.volumes.volume import create_volume, write_levels

SIZE_NM = (20.0, 10.0, 10.0)


@pytest.fixture(scope="module")
def array() -> np.ndarray:
    """Cubes of 6 voxels with random ids up to 2**63, a fifth of them background."""
    rng = np.random.default_rng(2)
    ids = np.array([0, 3, 8, 2**63, 77], np.uint64)[rng.integers(0, 5, (7, 24, 27))]
    labels = ids.repeat(6, 0).repeat(6, 1).repeat(6, 2)[:40, 1:141, 1:158]
    return np.ascontiguousarray(labels)


@pytest.fixture(scope="module")
def plain(array: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> StoredLabels:
    """The labels as an array without a pyramid."""
    path = tmp_path_factory.mktemp("plain") / "labels.zarr"
    attributes = array_attributes(SIZE_NM, (0.0, 0.0, 0.0))
    zarr.create_array(str(path), data=array, chunks=(20, 70, 80), attributes=attributes)
    return labels_at(str(path))


@pytest.fixture(scope="module")
def pyramid(array: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> StoredLabels:
    """The same labels with one coarser level."""
    return with_pyramid(tmp_path_factory.mktemp("pyramid") / "labels.zarr", array)


def with_pyramid(path: Path, array: np.ndarray) -> StoredLabels:
    """Write labels and one coarser level as an OME-NGFF image."""
    create_volume(path, shape=array.shape, dtype=np.uint64, block=(40, 70, 80), voxel_size_nm=SIZE_NM, labels=True)
    open_array(path / "0", writable=True)[:] = array
    coarse = downsampled(array, (1, 2, 2))
    attributes = array_attributes((20, 20, 20), (0.0, 0.0, 0.0))
    create_array(path / "1", shape=coarse.shape, dtype=np.uint64, block=(40, 35, 40), attributes=attributes)
    open_array(path / "1", writable=True)[:] = coarse
    grid = Grid(SIZE_NM, (0.0, 0.0, 0.0), "centre")
    write_levels(path, [("0", (1, 1, 1)), ("1", (1, 2, 2))], grid, labels=True, name="labels", more={})
    return labels_at(str(path))


def test_levels_that_are_not_stored_have_the_factors_of_our_pyramids(
    plain: StoredLabels, pyramid: StoredLabels
) -> None:
    assert plain.factors == pyramid.factors == ((1, 1, 1), (1, 2, 2))
    assert (len(plain.stored), len(pyramid.stored)) == (1, 2)


@pytest.mark.parametrize("piece", [256, 24, 7])
@pytest.mark.parametrize("factors", [(1, 1, 1), (1, 2, 2), (2, 4, 4)])
def test_a_region_has_the_same_voxels_for_any_piece_and_storage(
    factors: tuple[int, int, int], piece: int, array: np.ndarray, plain: StoredLabels, pyramid: StoredLabels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(label_levels, "_PIECE_VOXELS", piece)
    region = aligned(Roi((4, 13, 30), (35, 100, 126)), factors, array.shape)
    box = tuple(slice(b, e) for b, e in zip(region.begin, region.end, strict=True))
    wanted = downsampled(array[box], factors)
    np.testing.assert_array_equal(plain.read(region, factors), wanted)
    if factors != (2, 4, 4):  # the majority of majorities may differ from the majority
        np.testing.assert_array_equal(pyramid.read(region, factors), wanted)
    inside = plain.read(region, factors, lambda values: values == np.uint64(2**63))
    np.testing.assert_array_equal(inside, wanted == np.uint64(2**63))


def test_a_region_off_the_grid_of_a_stored_level_is_read_from_a_finer_one(
    array: np.ndarray, pyramid: StoredLabels
) -> None:
    region = Roi((0, 1, 3), (8, 20, 20))
    wanted = downsampled(np.ascontiguousarray(array[0:8, 1:21, 3:23]), (1, 2, 2))
    np.testing.assert_array_equal(pyramid.read(region, (1, 2, 2)), wanted)


@pytest.mark.parametrize("piece", [256, 6])
def test_a_region_that_ends_inside_a_window_ignores_the_voxels_beyond(
    piece: int, array: np.ndarray, plain: StoredLabels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_levels, "_PIECE_VOXELS", piece)
    wanted = downsampled(np.ascontiguousarray(array[4:9, 8:13, 0:25]), (4, 4, 4))
    np.testing.assert_array_equal(plain.read(Roi((4, 8, 0), (5, 5, 25)), (4, 4, 4)), wanted)


@pytest.mark.parametrize("piece", [256, 24])
def test_boxes_and_sizes_are_those_of_the_array(
    piece: int, array: np.ndarray, plain: StoredLabels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_levels, "_PIECE_VOXELS", piece)
    table = segments_of(plain)
    ids, counts = np.unique(array[array > 0], return_counts=True)
    np.testing.assert_array_equal(table["segment"], ids)
    np.testing.assert_array_equal(table["voxels"], counts)
    for row, segment in enumerate(ids):
        places = np.argwhere(array == segment)
        box = box_of(table, row)
        assert (tuple(box.begin), tuple(box.end)) == (tuple(places.min(axis=0)), tuple(places.max(axis=0) + 1))


def test_boxes_from_a_coarse_level_contain_the_segment(
    array: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_levels, "_MOST_SEARCHED_VOXELS", array.size // 2)
    array = array.copy()
    array[:, 3:137, 3:151] = 0
    array[3:9, 31:37, 51:57] = 6  # its first and last voxels are lost at the coarse level
    table = segments_of(with_pyramid(tmp_path / "labels.zarr", array))
    assert table["segment"].tolist() == [3, 6, 8, 77, 2**63]
    for row, segment in enumerate(table["segment"]):
        places, box = np.argwhere(array == segment), box_of(table, row)
        assert (np.array(box.begin) <= places.min(axis=0)).all()
        assert (np.array(box.end) > places.max(axis=0)).all()
        assert (np.array(box.end) <= array.shape).all()
    assert int(table["voxels"][1]) == 6 * 4 * 4  # of 6 x 6 x 6 voxels
