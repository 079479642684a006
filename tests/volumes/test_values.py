"""Findings from sampled values: raw, labels, masks, too few grey levels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from neuroseg.geometry import slices
from neuroseg.volumes.scaling import inverted, scaled
from neuroseg.volumes.values import (
    Sample,
    is_image_like,
    is_label_like,
    label_findings,
    probability_findings,
    raw_findings,
    sample_of,
    sampled_boxes,
    suggested_range,
)


def sampled(values: NDArray[np.generic]) -> Sample:
    shape = (values.shape[0], values.shape[1], values.shape[2])
    return sample_of([values[slices(roi)] for roi in sampled_boxes(shape)])


def image(shape: tuple[int, int, int] = (30, 60, 60), seed: int = 0) -> NDArray[np.uint8]:
    """Smooth noise over 60 to 200."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.5)
    return np.round(60 + 140 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def cells(count: int, shape: tuple[int, int, int] = (30, 60, 60)) -> NDArray[np.uint32]:
    """Voronoi cells 1 to count."""
    rng = np.random.default_rng(1)
    seeds = np.zeros(shape, np.uint32)
    for label in range(1, count + 1):
        seeds[tuple(int(rng.integers(size)) for size in shape)] = label
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    return seeds[tuple(nearest)]


def test_a_sample_counts_values_and_pairs_neighbours_in_x_and_y() -> None:
    found = sample_of([np.array([[[5, 5, 7], [5, 9, 9]]], np.uint8)])
    assert found.values.tolist() == [5, 7, 9]
    assert found.counts.tolist() == [3, 1, 2]
    pairs = sorted(zip(found.firsts.tolist(), found.seconds.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 0), (0, 1), (0, 2), (0, 2), (1, 2), (2, 2)]
    assert found.equal_share == pytest.approx(3 / 7)


@given(st.tuples(*[st.integers(1, 3000)] * 3))
def test_boxes_lie_in_the_volume_and_are_few(shape: tuple[int, int, int]) -> None:
    boxes = sampled_boxes(shape)
    assert boxes == sampled_boxes(shape)
    assert sum(int(box.size) for box in boxes) <= 2**19
    for box in boxes:
        assert all(0 <= begin < end <= size for begin, end, size in zip(box.begin, box.end, shape, strict=True))


def test_boxes_reach_both_ends_of_z() -> None:
    boxes = sampled_boxes((500, 400, 400))
    assert (boxes[0].begin[0], boxes[-1].end[0]) == (0, 500)


@pytest.mark.parametrize("count", [2, 3, 5, 10, 40, 200])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint64])
def test_labels_are_labels_whatever_their_number(count: int, dtype: type[np.generic]) -> None:
    found = sampled(cells(count).astype(dtype))
    assert is_label_like(found)
    assert not is_image_like(found)
    assert label_findings(found) == []


@pytest.mark.parametrize(
    "values",
    [
        (cells(7) == 3).astype(np.uint8),  # one object
        (cells(7) == 3).astype(np.uint8) * 255,
        np.where(image() > 130, 9, 0).astype(np.uint16),
    ],
)
def test_masks_are_labels(values: NDArray[np.generic]) -> None:
    assert is_label_like(sampled(values))
    assert label_findings(sampled(values)) == []


@pytest.mark.parametrize(
    "values",
    [
        np.ones((1, 1, 1), np.uint8),
        np.full((9, 9, 9), 7, np.uint64),
        np.arange(60, dtype=np.uint32).reshape(3, 4, 5),
        np.random.default_rng(0).integers(0, 2**40, (20, 40, 40), np.uint64),  # every voxel another id
        np.where(np.random.default_rng(0).random((20, 40, 40)) < 0.01, 5, 0).astype(np.uint8),  # points
    ],
)
def test_odd_labels_are_not_refused(values: NDArray[np.generic]) -> None:
    assert label_findings(sampled(values)) == []


def test_labels_without_any_object_are_a_warning() -> None:
    (finding,) = label_findings(sampled(np.zeros((9, 9, 9), np.uint32)))
    assert "every sampled voxel is 0" in str(finding)
    assert not finding.certain


def test_affinities_of_0_and_1_in_uint8_are_refused() -> None:
    half = np.arange(64, dtype=np.uint8).reshape(4, 4, 4) % 2
    assert probability_findings(sampled(half))[0].certain
    assert probability_findings(sampled(half * 255)) == []
    assert probability_findings(sampled(half.astype(np.float32))) == []
    assert probability_findings(sampled(half * 0)) == []


def padded() -> NDArray[np.uint8]:
    values = image()
    values[:, :45] = 0
    return values


@pytest.mark.parametrize(
    "values",
    [
        image(),
        padded(),
        image().astype(np.uint16) * 257,
        np.clip((image().astype(int) - 120) * 8, 0, 255).astype(np.uint8),  # clipped at both ends
        np.random.default_rng(0).normal(128, 30, (30, 60, 60)).clip(0, 255).astype(np.uint8),
    ],
)
def test_images_are_raw_and_no_labels(values: NDArray[np.generic]) -> None:
    assert raw_findings(sampled(values), None if values.dtype == np.uint8 else (0, 65535), chosen=False) == []
    assert label_findings(sampled(values))[0].certain


@pytest.mark.parametrize("levels", [3, 6, 11])
def test_few_grey_levels_are_not_taken_for_labels(levels: int) -> None:
    values = (image() * (levels / 256)).astype(np.uint8)
    found = raw_findings(sampled(values), None, chosen=True)
    assert [finding.certain for finding in found] == [False]
    assert "grey levels" in str(found[0])


def test_12_bits_in_uint16_are_refused_with_the_range_that_fits() -> None:
    found = sampled(image().astype(np.uint16) * 16)
    (finding,) = raw_findings(found, (0, 65535), chosen=False)
    assert finding.certain
    assert "--range 0 4095" in finding.fix
    assert raw_findings(found, (0, 4095), chosen=True) == []
    assert not raw_findings(found, (0, 65535), chosen=True)[0].certain
    assert "--range 4095 0" in raw_findings(found, (65535, 0), chosen=False)[0].fix


def test_14_bits_in_uint16_are_a_warning() -> None:
    found = sampled(image().astype(np.uint16) * 64)
    (finding,) = raw_findings(found, (0, 65535), chosen=False)
    assert not finding.certain
    assert "--range 0 16383" in finding.fix


def test_a_narrow_part_far_from_zero_is_named_by_its_ends() -> None:
    found = sampled(image().astype(np.uint16) + 30000)
    low, high = suggested_range(found, (0, 65535))
    assert (low, high) == (30060, 30200)
    assert raw_findings(found, (0, 65535), chosen=False)[0].certain


def test_hot_pixels_are_not_grey_levels() -> None:
    values = image().astype(np.uint16) * 16
    values[3, 5, 7] = 65535
    assert raw_findings(sampled(values), (0, 65535), chosen=False)[0].certain


def test_a_range_that_leaves_nothing_is_refused_though_it_was_chosen() -> None:
    found = sampled(image().astype(np.float32))
    assert raw_findings(found, (0, 1), chosen=True)[0].certain
    (beyond,) = raw_findings(found, (0, 100), chosen=True)
    assert not beyond.certain
    assert "outside the range" in beyond.problem
    assert "--range 60 200" in beyond.fix


@pytest.mark.parametrize("value", [0, 100])
def test_one_value_is_refused(value: int) -> None:
    (finding,) = raw_findings(sampled(np.full((30, 30, 30), value, np.uint8)), None, chosen=True)
    assert finding.certain
    assert f"every sampled voxel is {value}" in finding.problem


@pytest.mark.parametrize("values", [np.full((9, 9, 9), 5, np.uint8), cells(5, (9, 20, 20)).astype(np.uint16)])
def test_nothing_is_certain_of_a_tiny_volume(values: NDArray[np.generic]) -> None:
    found = raw_findings(sampled(values), None if values.dtype == np.uint8 else (0, 65535), chosen=False)
    assert [finding.certain for finding in found] == [False]


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=50), st.integers(0, 65534), st.integers(1, 70000))
def test_an_inverted_range_is_exactly_the_negative(voxels: list[int], low: int, width: int) -> None:
    for dtype in (np.uint16, np.float64):
        values = np.array(voxels, dtype)
        assert np.array_equal(scaled(values, (low + width, low)), 255 - scaled(values, (low, low + width)))


def test_uint8_is_inverted_exactly() -> None:
    values = np.arange(256, dtype=np.uint8)
    assert inverted(None) == (255, 0)
    assert np.array_equal(scaled(values, inverted(None)), 255 - values)
    assert inverted((10, 30)) == (30, 10)


def real_datasets(data_folder: Path) -> Iterator[tuple[str, NDArray[np.generic]]]:
    for path in sorted(data_folder.glob("*.h5")):
        with h5py.File(path, "r") as file:
            for name, node in file.items():
                if isinstance(node, h5py.Dataset) and node.ndim == 3 and node.dtype.kind in "ui":
                    yield f"{path.name}:{name}", node[...]


def test_real_volumes_are_what_they_are(data_folder: Path) -> None:
    seen = 0
    for name, values in real_datasets(data_folder):
        found = sampled(values)
        if name.endswith(":raw"):
            assert raw_findings(found, None, chosen=False) == [], name
            assert label_findings(found), name
        else:
            assert label_findings(found) == [], name
            assert is_label_like(found), name
        seen += 1
    assert seen >= 10
