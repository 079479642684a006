"""Voxels near a boundary of the truth: examples by hand, comparison with scipy, and crops."""

from __future__ import annotations

import numpy as np
import pytest
from funlib.geometry import Roi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from neuroseg.errors import InputError
from neuroseg.evaluation.borders import border_reach, near_boundary
from neuroseg.fragments.settings import wants_sections
from neuroseg.geometry import grown, slices, whole

Labels = NDArray[np.uint64]
ISOTROPIC, SECTIONS, ODD = (10.0, 10.0, 10.0), (40.0, 4.0, 4.0), (9.5, 6.3, 6.3)


def blobs(seed: int, shape: tuple[int, int, int], width: float) -> Labels:
    """Smooth labels 0 to 4."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((5, *shape)), (0, width, width, width))
    return noise.argmax(0).astype(np.uint64)


def test_the_voxels_next_to_a_boundary_are_masked() -> None:
    row = np.array([1, 1, 1, 1, 2, 2, 2, 2], np.uint64)[None, None]
    # The two voxels that touch are at the boundary; their centres are 10 nm from those of the next ones.
    assert near_boundary(row, ISOTROPIC, 1)[0, 0].tolist() == [False] * 3 + [True] * 2 + [False] * 3
    assert near_boundary(row, ISOTROPIC, 9.9)[0, 0].sum() == 2
    assert near_boundary(row, ISOTROPIC, 10)[0, 0].tolist() == [False] * 2 + [True] * 4 + [False] * 2
    assert near_boundary(row, ISOTROPIC, 500)[0, 0].all()


def test_background_has_a_boundary_and_faces_have_none() -> None:
    assert near_boundary(np.array([[[0, 0, 0, 7, 7]]]), ISOTROPIC, 1)[0, 0].tolist() == [
        False,
        False,
        True,
        True,
        False,
    ]
    assert not near_boundary(np.full((3, 4, 5), 7), ISOTROPIC, 400).any()


def test_thick_sections_are_independent() -> None:
    two = np.stack([np.full((3, 6), 1), np.full((3, 6), 2)])
    assert near_boundary(two, ISOTROPIC, 10).all()
    assert not near_boundary(two, SECTIONS, 100).any()
    assert border_reach(SECTIONS, 25) == (0, 7, 7)
    assert border_reach(ISOTROPIC, 25) == (3, 3, 3)


def test_a_width_beyond_fifty_voxels_is_refused() -> None:
    with pytest.raises(InputError, match="at most 500 nm"):
        border_reach(ISOTROPIC, 501)


@pytest.mark.parametrize("size", [ISOTROPIC, SECTIONS, ODD])
@pytest.mark.parametrize("border_nm", [3.0, 20.0, 34.7])
def test_the_distance_equals_scipys(size: tuple[float, float, float], border_nm: float) -> None:
    truth = blobs(1, (14, 60, 70), 8)
    axes = [1, 2] if wants_sections(size) else [0, 1, 2]
    inside = np.ones(truth.shape, bool)
    for axis in axes:
        for step in (1, -1):
            padded = np.pad(truth, 1, mode="edge")
            inside &= truth == np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    if axes == [1, 2]:
        # CREMI's recipe: a 2D distance transform of each section.
        distances = np.stack([ndimage.distance_transform_edt(plane, sampling=size[1:]) for plane in inside])
    else:
        distances = ndimage.distance_transform_edt(inside, sampling=size)
    found = near_boundary(truth, size, border_nm)
    assert np.array_equal(found, distances <= border_nm)
    assert 0 < found.sum() < found.size


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([ISOTROPIC, SECTIONS, ODD]),
    # 63 nm are ten voxels of 6.3 nm along an axis, or six and eight: equal except for rounding.
    border_nm=st.sampled_from([1.0, 10.0, 25.0, 63.0]),
    begin=st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 6)),
)
def test_a_crop_with_context_equals_the_whole(
    seed: int, size: tuple[float, float, float], border_nm: float, begin: tuple[int, int, int]
) -> None:
    truth = blobs(seed, (9, 30, 30), 2)
    box = Roi(begin, (4, 8, 8))
    seen = grown(box, border_reach(size, border_nm), whole(truth.shape))
    crop = near_boundary(truth[slices(seen)], size, border_nm)
    assert np.array_equal(crop[slices(box, seen.begin)], near_boundary(truth, size, border_nm)[slices(box)])
