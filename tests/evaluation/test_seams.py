"""The seam audit: a planted seam is found, and labels that ignore the blocks have none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial import cKDTree

from neuroseg.evaluation.seams import PlaneShares, plane_shares, seam_audit

BLOCK = 16


def tissue(seed: int = 0, shape: tuple[int, int, int] = (64, 48, 48)) -> np.ndarray:
    """Labels of random seeds, each voxel with the label of the nearest seed: no plane is special."""
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(0, shape, (150, 3))
    places = np.indices(shape).reshape(3, -1).T
    return (1 + cKDTree(seeds).query(places)[1]).reshape(shape).astype(np.uint64)


def cut(labels: np.ndarray, axis: int, share: float = 1.0) -> np.ndarray:
    """Other labels in every second block along an axis, for a share of the labels."""
    number = np.arange(labels.shape[axis]).reshape([-1 if n == axis else 1 for n in range(3)])
    moved = (number // BLOCK % 2 == 1) & (labels <= share * labels.max())
    return np.where(moved, labels + np.uint64(1000), labels)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_labels_that_ignore_the_blocks_have_no_seam(axis: int) -> None:
    for seed in range(3):
        found = seam_audit([plane_shares(tissue(seed), 0, BLOCK, axis)])
        assert found.has_band
        assert not found.has_seam
        assert found.low <= found.at_faces <= found.high
        assert found.faces == (64, 48, 48)[axis] // BLOCK - 1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_planted_seam_is_found_along_its_axis_only(axis: int) -> None:
    labels = cut(tissue(), axis, share=0.25)
    found = [seam_audit([plane_shares(labels, 0, BLOCK, each)]).has_seam for each in range(3)]
    assert found == [each == axis for each in range(3)]


def test_faces_lie_at_multiples_of_the_block_in_the_whole_volume() -> None:
    labels = cut(tissue(), 0)
    assert seam_audit([plane_shares(labels[5:], 5, BLOCK, 0)]).has_seam
    assert not seam_audit([plane_shares(labels[5:], 0, BLOCK, 0)]).has_seam, "looked for at other planes"


def test_boxes_are_judged_together() -> None:
    labels = cut(tissue(), 2)
    halves = [plane_shares(labels[:, :, :24], 0, BLOCK, 2), plane_shares(labels[:, :, 24:], 24, BLOCK, 2)]
    found = seam_audit(halves)
    assert found.faces == 2
    assert found.has_seam


def test_the_band_is_that_of_the_inner_planes_beside_the_faces() -> None:
    inner = np.array([0.1, 0.3] * 10)
    shares = PlaneShares(np.array([0.5] * 4), np.array([0.2] * 4), inner, np.full(20, 0.2))
    found = seam_audit([shares])
    width = 4 * np.std(inner - 0.2, ddof=1) / 2
    assert (found.low, found.high) == pytest.approx((max(0, 0.2 - width), 0.2 + width))
    assert (found.faces, found.at_faces, found.inner) == (4, 0.5, pytest.approx(0.2))


def test_background_ends_no_label() -> None:
    labels = tissue()
    labels[BLOCK : 2 * BLOCK] = 0
    found = seam_audit([plane_shares(labels, 0, BLOCK, 0)])
    assert found.faces == 1, "only the face at 48 has labels on both sides"
    assert not found.has_seam


def test_without_faces_or_planes_nothing_has_band() -> None:
    whole = seam_audit([plane_shares(tissue(), 0, 64, 0)])
    assert (whole.faces, whole.has_band, whole.has_seam) == (0, False, False)
    assert math.isnan(whole.at_faces)
    few = seam_audit([plane_shares(tissue()[:, :9, :9], 0, BLOCK, 0)])
    assert not few.has_band, "81 pairs per plane are too few"
    sliver = seam_audit([plane_shares(tissue()[:1], 0, BLOCK, 0), plane_shares(tissue()[:0], 0, BLOCK, 0)])
    assert not sliver.has_band
    tiny = seam_audit([plane_shares(tissue(), 0, 4, 0)])
    assert not tiny.has_band, "blocks of 4 voxels have no planes away from faces"
