"""Levels that are sampled when asked for, and the bytes of chunks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from funlib.geometry import Roi
from hypothesis import given
from hypothesis import strategies as st

from neuroseg.geometry import slices, triple
from neuroseg.viewer.layers import AFFINITIES, IMAGE, LABELS, Layer
from neuroseg.viewer.precomputed import description, encoded, region_in
from neuroseg.viewer.sampled_levels import Level, levels_of, read_level, touched_pieces


def layer_of(values: np.ndarray, kind: str = LABELS, size: tuple[float, float, float] = (10, 10, 10)) -> Layer:
    shape, channels = values.shape[-3:], values.shape[0] if values.ndim == 4 else 1
    return Layer("a", kind, values.dtype, shape, size, (0, 0, 0), lambda roi: values[(..., *slices(roi))], channels)


def test_levels_halve_what_is_fine_until_the_volume_is_small() -> None:
    found = levels_of(layer_of(np.zeros((30, 500, 300), np.uint8), size=(40, 10, 10)))
    assert [level.factor for level in found] == [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    assert [level.shape for level in found] == [(30, 500, 300), (30, 250, 150), (30, 125, 75)]


def test_a_coarse_voxel_has_the_value_in_the_middle() -> None:
    values = np.arange(4 * 4 * 5).reshape(4, 4, 5)
    found = read_level(layer_of(values), Level((2, 2, 2), (2, 2, 3)), Roi((0, 0, 0), (2, 2, 3)))
    np.testing.assert_array_equal(found, values[1::2, 1::2][:, :, [1, 3, 4]])


@given(st.data())
def test_a_region_of_a_level_is_a_part_of_the_level(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.integers(1, 12)) for _ in range(3))
    factor = tuple(data.draw(st.integers(1, 4)) for _ in range(3))
    values = np.random.default_rng(0).integers(0, 99, shape)
    size = tuple(-(-n // f) for n, f in zip(shape, factor, strict=True))
    level = Level(factor, size)  # type: ignore[arg-type]
    begin = [data.draw(st.integers(0, n - 1)) for n in size]
    roi = Roi(begin, [data.draw(st.integers(1, n - b)) for n, b in zip(size, begin, strict=True)])
    layer = layer_of(values)
    piece = data.draw(st.integers(1, 9))
    found = read_level(layer, level, roi, piece_voxels=piece)
    everything = read_level(layer, level, Roi((0, 0, 0), size))
    np.testing.assert_array_equal(found, everything[slices(roi)])
    # A box with the only label: reading the pieces that it touches finds it.
    low = [data.draw(st.integers(0, n - 1)) for n in shape]
    high = [data.draw(st.integers(b, n - 1)) for n, b in zip(shape, low, strict=True)]
    marked = np.zeros(shape, np.uint64)
    marked[tuple(slice(b, e + 1) for b, e in zip(low, high, strict=True))] = 7
    touched = touched_pieces(level, roi, np.array(low)[:, None], np.array(high)[:, None], piece)
    part = read_level(layer_of(marked), level, roi, touched, piece)
    np.testing.assert_array_equal(part, read_level(layer_of(marked), level, roi))


def test_pieces_that_no_box_touches_are_not_read() -> None:
    read = []
    values = np.zeros((8, 8, 8), np.uint64)
    layer = dataclasses.replace(layer_of(values), read=lambda roi: (read.append(roi), values[slices(roi)])[1])
    level, roi = Level((2, 2, 2), (4, 4, 4)), Roi((0, 0, 0), (4, 4, 4))
    touched = touched_pieces(level, roi, np.array([[0], [0], [4]]), np.array([[1], [3], [7]]), 4)
    assert touched.tolist() == [[[False, True], [False, False]], [[False, False], [False, False]]]
    read_level(layer, level, roi, touched, 4)
    assert [triple(each.begin) for each in read] == [(1, 1, 5)]


def test_affinities_keep_their_channels() -> None:
    values = np.random.default_rng(0).integers(0, 255, (3, 4, 6, 8), np.uint8)
    layer = layer_of(values, AFFINITIES)
    found = read_level(layer, Level((1, 2, 2), (4, 3, 4)), Roi((0, 0, 0), (4, 3, 4)))
    np.testing.assert_array_equal(found, values[:, :, 1::2, 1::2])
    assert encoded(found, layer) == found.tobytes(), "x is fastest, channels are last to change"


def test_the_description_names_axes_from_x_to_z() -> None:
    layer = layer_of(np.zeros((2, 3, 4), np.uint16), IMAGE, (40, 8, 4))
    info = description(layer, levels_of(layer))
    assert (info["type"], info["data_type"], info["num_channels"]) == ("image", "uint16", 1)
    assert (info["scales"][0]["size"], info["scales"][0]["resolution"]) == ([4, 3, 2], [4, 8, 40])


@pytest.mark.parametrize("kind", [np.int64, np.uint8, ">u4"])
def test_labels_of_any_type_are_sent_as_uint64(kind: object) -> None:
    layer = layer_of(np.array([[[1, 2]]]).astype(kind))  # type: ignore[arg-type]
    assert encoded(layer.read(Roi((0, 0, 0), (1, 1, 2))), layer) == np.array([1, 2], "<u8").tobytes()


@pytest.mark.parametrize("box", ["0-4_0-3_0-3", "0-4_0-3", "4-0_0-3_0-2", "a", "0-4_0-3_0-2/..", "-1-4_0-3_0-2", ""])
def test_regions_outside_and_other_names_are_none(box: str) -> None:
    assert region_in(box, Level((1, 1, 1), (2, 3, 4))) is None


def test_a_region_is_named_from_x_to_z() -> None:
    assert region_in("1-4_0-3_1-2", Level((1, 1, 1), (2, 3, 4))) == Roi((1, 0, 1), (1, 3, 3))


def test_a_region_larger_than_a_chunk_is_refused() -> None:
    """Otherwise one request could fill the memory."""
    assert region_in("0-4096_0-4096_0-64", Level((1, 1, 1), (64, 4096, 4096))) is None
