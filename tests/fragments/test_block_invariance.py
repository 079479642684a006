"""Fragments have the same bytes for every block shape, including a single block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from funlib.geometry import Roi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from neuroseg.fragments.settings import BasinSettings

Made = Callable[..., NDArray[np.uint64]]

VOXEL_SIZES = [(10.0, 10.0, 10.0), (20.0, 10.0, 10.0), (30.0, 6.3, 6.3), (50.0, 4.0, 4.0)]
MOST_BLOCKS = 60


def smooth_affinities(seed: int, shape: tuple[int, int, int], contrast: float = 1.0) -> NDArray[np.uint8]:
    """Return random affinities of random smoothness. A large contrast gives plateaus of 0 and 255."""
    rng = np.random.default_rng(seed)
    values = gaussian_filter(rng.random((3, *shape)), (0, *rng.choice([0.5, 1, 2, 4], 3)))
    values = (values - values.mean()) / (values.std() + 1e-9) * contrast / 4 + 0.5
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


@st.composite
def volumes(draw: st.DrawFn) -> tuple[NDArray[np.uint8], tuple[int, ...], BasinSettings, Roi, tuple, object]:  # type: ignore[type-arg]
    """Affinities, a block shape, settings, a region of interest, offsets and a mask."""
    shape = draw(st.tuples(st.integers(1, 24), st.integers(1, 34), st.integers(1, 34)))
    begin = [draw(st.one_of(st.just(0), st.integers(0, size - 1))) for size in shape]
    extent = [size - b - draw(st.integers(0, (size - b - 1) // 2)) for size, b in zip(shape, begin, strict=True)]
    # At most three cuts an axis and a sliver: block shapes from 1 voxel on where the volume is thin.
    block = tuple(draw(st.integers(max(1, -(-size // 4)), size)) for size in shape)
    made = BasinSettings(
        voxel_size_nm=draw(st.sampled_from(VOXEL_SIZES)),
        reach=draw(st.sampled_from([1.0, 2.0, 3.5, 6.0, 16.0])),
        sigma=draw(st.sampled_from([0.0, 0.5, 1.0])),
        ripple=draw(st.sampled_from([0.0, 0.5])),
        period=draw(st.sampled_from([5.0, 24.0])),
        per_section=draw(st.booleans()),
        mask_boundary=draw(st.sampled_from([0.0, 0.0, 0.4])),
    )
    contrast = draw(st.sampled_from([0.0, 1.0, 8.0, 1e6]))
    signs = draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    offsets = tuple(tuple(sign if a == axis else 0 for a in range(3)) for axis, sign in enumerate(signs))
    seed = draw(st.integers(0, 2**32 - 1))
    affinities = smooth_affinities(seed, shape, contrast)
    mask = draw(st.sampled_from([None, smooth_affinities(seed + 1, shape, 4)[0] > 90]))
    return affinities, block, made, Roi(begin, extent), offsets, mask


@settings(max_examples=80)
@given(volumes())
def test_blockwise_fragments_equal_the_whole_volumes(fragments_of: Made, volume) -> None:  # type: ignore[no-untyped-def]
    affinities, block, made, roi, offsets, mask = volume
    whole = fragments_of(affinities, None, made, roi=roi, offsets=offsets, mask=mask)
    found = fragments_of(affinities, block, made, roi=roi, offsets=offsets, mask=mask)
    inside = tuple(slice(b, e) for b, e in zip(roi.begin, roi.end, strict=True))
    if not made.mask_boundary:
        np.testing.assert_array_equal(whole[inside] > 0, True if mask is None else mask[inside])
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
@pytest.mark.parametrize("per_section", [False, True])
def test_small_blocks_do_not_change_a_realistic_volume(
    fragments_of: Made, voxel_size: tuple[float, float, float], per_section: bool
) -> None:
    affinities = smooth_affinities(7, (20, 48, 44), 4)
    made = BasinSettings(voxel_size, per_section=per_section)
    whole = fragments_of(affinities, None, made)
    assert len(np.unique(whole)) > 3
    np.testing.assert_array_equal(fragments_of(affinities, (8, 17, 16), made), whole)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    ("made", "density"),
    [(BasinSettings(VOXEL_SIZES[0], reach=2, sigma=1.0), 0.1), (BasinSettings(VOXEL_SIZES[1], reach=4, sigma=0), 0.01)],
)
def test_a_halo_one_voxel_smaller_breaks_some_volume(
    fragments_of: Made, made: BasinSettings, density: float, axis: int
) -> None:
    halo = made.halo_voxels
    short = [size - (a == axis) for a, size in enumerate(halo)]
    block = [4 if a == axis else 24 for a in range(3)]
    broken = False
    for seed in range(80):
        # Rough interiors pierced by single black voxels: distances and paths that end anywhere.
        rng = np.random.default_rng(seed)
        affinities = rng.integers(128, 256, (3, 24, 24, 24)).astype(np.uint8)
        affinities[:, rng.random((24, 24, 24)) < density] = 0
        whole = fragments_of(affinities, None, made)
        np.testing.assert_array_equal(fragments_of(affinities, block, made, halo=halo), whole)
        broken = bool((fragments_of(affinities, block, made, halo=short) != whole).any())
        if broken:
            break
    assert broken, "none of these volumes needs the last voxel of the halo"


@pytest.mark.parametrize("ripple", [0.0, 0.5])
def test_blocks_do_not_change_a_flat_interior(fragments_of: Made, ripple: float) -> None:
    # A blank soma: the clipped distance is constant inside; without the ripple paths cross it from end to end.
    z, y, x = np.ogrid[:20, :56, :60]
    soma = ((y - 28) / 26) ** 2 + ((x - 30) / 28) ** 2 + 0 * z < 1
    affinities = np.ascontiguousarray(np.broadcast_to(soma * np.uint8(255), (3, *soma.shape)))
    made = BasinSettings(VOXEL_SIZES[0], reach=4, ripple=ripple)
    whole = fragments_of(affinities, None, made)
    np.testing.assert_array_equal(fragments_of(affinities, (9, 11, 13), made), whole)
    names, counts = np.unique(whole[soma], return_counts=True)
    longest = max(np.ptp(np.nonzero(whole == name)[2]) for name in names[np.argsort(counts)[-3:]])
    assert longest <= 2 * made.period if ripple else longest > 3 * 13


def test_a_tube_through_many_blocks_is_one_fragment(fragments_of: Made) -> None:
    affinities = np.zeros((3, 5, 5, 200), np.uint8)
    affinities[:, 1:4, 1:4] = 255
    made = BasinSettings(VOXEL_SIZES[0], reach=3, ripple=0)
    found = fragments_of(affinities, (5, 5, 9), made)
    # Along the tube's plateau every step goes to x - 1: 23 blocks are crossed, from the last voxel to the first.
    assert set(found[2, 2].tolist()) == {(2 * 5 + 2) * 200 + 1}
    np.testing.assert_array_equal(found, fragments_of(affinities, None, made))


def test_a_path_may_return_to_a_block(fragments_of: Made) -> None:
    # The path of one plateau from the last row to the first crosses the face between the two blocks in every row.
    inside = np.zeros((1, 25, 40), bool)
    inside[0, ::4] = True
    inside[0, 2::8, :2] = inside[0, 6::8, -2:] = True
    inside[0, 1::8, :2] = inside[0, 3::8, :2] = inside[0, 5::8, -2:] = inside[0, 7::8, -2:] = True
    affinities = np.ascontiguousarray(np.broadcast_to(inside * np.uint8(255), (3, *inside.shape)))
    made = BasinSettings(VOXEL_SIZES[0], reach=2, sigma=0, ripple=0)
    whole = fragments_of(affinities, None, made)
    for block in ((1, 25, 20), (1, 5, 7), (1, 1, 40), (1, 25, 1)):
        np.testing.assert_array_equal(fragments_of(affinities, block, made), whole)
