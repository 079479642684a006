"""Perturbations keep their ranges, change nothing at strength 0, and move labels and targets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from scipy import ndimage

from neuroseg.errors import InputError
from neuroseg.training.data.affinity_targets import affinity_targets
from neuroseg.training.data.labelled import open_labelled
from neuroseg.training.data.preview import draw_perturbations
from neuroseg.training.data_settings import VolumeSettings
from neuroseg.training.perturbations import appearance, movement
from neuroseg.training.perturbations.draw import (
    APPEARANCE,
    IN_PLANE,
    MOVEMENT,
    NAMES,
    PUBLISHED,
    TURNS,
    UNTURNED,
    check_names,
    perturbed,
)  # fmt: skip
from neuroseg.training.perturbations.moved_affinities import displaced_affinities, turned_affinities
from neuroseg.views.contact_sheet import Frame

SHAPE = (12, 48, 48)
OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))


@pytest.fixture
def raw() -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(1).uniform(size=SHAPE), 2)
    return ((smooth - smooth.min()) / (smooth.max() - smooth.min())).astype(np.float32)


@pytest.fixture
def labels() -> np.ndarray:
    """Cells of a jittered lattice, a few of them background."""
    seeds = np.zeros(SHAPE, np.uint32)
    rng = np.random.default_rng(2)
    places = tuple(rng.integers(0, size, 40) for size in SHAPE)
    seeds[places] = rng.integers(0, 30, 40)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    cells = seeds[tuple(nearest)]
    return np.where(cells % 7 == 0, 0, cells)


@pytest.mark.parametrize("name", NAMES)
def test_a_perturbation_is_pure_and_seeded_and_keeps_the_range(name: str, raw: np.ndarray) -> None:
    before, other = raw.copy(), raw[::-1].copy()
    made = [perturbed(raw, [name], np.random.default_rng(seed), other=lambda: other) for seed in (3, 3, 4)]
    assert np.array_equal(raw, before)
    assert np.array_equal(made[0].raw, made[1].raw)
    assert made[0].raw.dtype == np.float32
    assert made[0].raw.shape == SHAPE
    assert made[0].raw.min() >= 0
    assert made[0].raw.max() <= 1 + 1e-6
    assert any(not np.array_equal(each.raw, raw) for each in made), "it does something"


@pytest.mark.parametrize("name", NAMES)
def test_strength_zero_changes_nothing(name: str, raw: np.ndarray, labels: np.ndarray) -> None:
    for seed in range(8):
        made = perturbed(raw, [name], np.random.default_rng(seed), strength=0.0, other=lambda: raw[::-1].copy())
        assert np.allclose(made.raw, raw, atol=1e-6)
        assert np.array_equal(made.follow(labels), labels)


def test_exactly_one_is_drawn_and_each_as_often(raw: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    small = raw[:, :16, :16].copy()
    moved = sum(perturbed(small, PUBLISHED, rng).displacement is not None for _ in range(500))
    assert 70 <= moved <= 130, "misalign is one of five"
    nothing = perturbed(raw, (), rng)
    assert nothing.raw is raw


def test_ranges_of_the_appearances(raw: np.ndarray) -> None:
    flat = np.full((20, 64, 64), 0.5, np.float32)
    sigmas = [appearance.noise(flat, np.random.default_rng(seed)).std() for seed in range(40)]
    assert 0.009 < min(sigmas) < 0.05
    assert 0.15 < max(sigmas) < 0.21
    ends = [appearance.intensity(flat, np.random.default_rng(seed)) for seed in range(40)]
    low, high = (0.5 * 0.95 - 0.05) ** 2, (0.5 * 1.05 + 0.05) ** 0.5
    assert all(low - 1e-6 <= end.min() and end.max() <= high + 1e-6 for end in ends)
    whole = sum(len(np.unique(end[:, 0, 0])) == 1 for end in ends)
    assert 3 <= whole <= 18, "the whole volume in one case of four"
    for seed in range(10):
        gone = appearance.cutout(np.ones((18, 160, 160), np.float32), np.random.default_rng(seed)) == 0
        assert 0.03 < gone.mean() < 0.6
        assert gone.any((1, 2)).sum() >= 5
        small = appearance.cutout(np.ones((24, 80, 80), np.float32), np.random.default_rng(seed)) == 0
        assert 0.02 < small.mean() < 0.5, "a small crop does not lose more than the published one"
    missed = appearance.missing(flat, np.random.default_rng(1))
    assert 1 <= ((missed == 0).any((1, 2))).sum() <= 3
    sharp = raw.var(axis=(1, 2))
    soft = appearance.blur(raw, np.random.default_rng(0)).var(axis=(1, 2))
    assert (soft <= sharp + 1e-6).all()


def test_ranges_of_boxes_blurs_and_mixtures(raw: np.ndarray) -> None:
    """A crop with one box, and single bright pixels that show the radius of a blur."""
    shapes = set()
    for seed in range(60):
        gone = appearance.cutout(np.ones((11, 21, 21), np.float32), np.random.default_rng(seed), 0.9) == 0
        shapes.add(tuple(int(np.ptp(where)) + 1 for where in gone.nonzero()))
    depths, heights, widths = (sorted(set(sizes)) for sizes in zip(*shapes, strict=True))
    assert depths == [5, 6, 7, 8, 9, 10]
    assert (heights[0], heights[-1]) == (widths[0], widths[-1]) == (10, 20)
    point = np.zeros((40, 31, 31), np.float32)
    point[:, 15, 15] = 1
    reaches = {(np.ptp(section.nonzero()[0]) + 1) // 2 for section in appearance.blur(point, np.random.default_rng(0))}
    assert reaches - {0} == {1, 2, 3, 4}, "kernels of 3, 5, 7 and 9 (0: a sigma too small to see)"
    peaks = [appearance.blur(point, np.random.default_rng(seed))[:, 15, 15].min() for seed in range(9)]
    assert min(peaks) > 1 / (2 * np.pi * 2.0**2) * 0.9, "a sigma of 2 at most"
    soft = [appearance.strong_blur(point, np.random.default_rng(seed)) for seed in range(40)]
    assert {int((each != point).any((1, 2)).sum()) for each in soft} == {1, 2, 3}
    shares = [appearance.mixup(raw * 0, raw * 0 + 1, np.random.default_rng(seed)).max() for seed in range(60)]
    assert 0.1 <= min(shares) < 0.15
    assert 0.35 < max(shares) <= 0.4 + 1e-6


def test_ranges_of_the_movements() -> None:
    def drawn(move: Callable[..., np.ndarray], shape: tuple[int, int, int]) -> list[np.ndarray]:
        return [move(shape, np.random.default_rng(seed)) for seed in range(80)]

    hit = [(each[:, 1:, 0, 0] != 0).any(0).mean() for each in drawn(movement.misalign, (200, 1, 1))]
    slips = [share for share in hit if share < 0.5]
    assert np.mean(slips) == pytest.approx(0.2, abs=0.02), "a section slips in one case of five"
    assert 25 <= len(slips) <= 55, "every other one is a slip"
    ends = [1 - each[0, 0, 0, 0] / 20 for each in drawn(movement.rescale, (1, 41, 41))]
    assert 1 / 1.5 <= min(ends) < 0.7
    assert 1.45 < max(ends) <= 1.5
    spread = [each.std() for each in drawn(movement.elastic, (18, 160, 160))]
    assert 1.0 < np.mean(spread) <= 2.0, "control points of sigma 2, and what is interpolated between them"
    folded = [(each != 0).any((0, 2, 3)).sum() for each in drawn(movement.fold, (18, 40, 40))]
    assert set(folded) == {1, 2, 3, 4, 5}
    assert 6 < max(np.abs(each).max() for each in drawn(movement.fold, (18, 40, 40))) <= 8.01


def test_misalignment_is_whole_voxels_of_whole_sections() -> None:
    slips = steps = 0
    for seed in range(60):
        shifts = movement.misalign((18, 40, 40), np.random.default_rng(seed))
        assert np.array_equal(shifts, np.broadcast_to(shifts[:, :, :1, :1], shifts.shape))
        per_section = shifts[:, :, 0, 0]
        assert np.array_equal(per_section, per_section.round())
        assert np.abs(per_section).max() <= 17
        assert not per_section[:, 0].any(), "the first section stays"
        changes = np.abs(np.diff(per_section, axis=1)).sum(0) > 0
        steps += changes.sum() == 1
        slips += changes.sum() > 2
    assert steps >= 15
    assert slips >= 15


def test_misalignment_shows_the_neighbouring_tissue() -> None:
    raw = np.random.default_rng(0).uniform(size=(3, 20, 20)).astype(np.float32)
    displacement = np.zeros((2, *raw.shape), np.float32)
    displacement[0, 1], displacement[1, 1] = 3, -2
    shown = movement.moved(raw, displacement, order=1)
    assert np.allclose(shown[1, :17, 2:], raw[1, 3:, :18])
    assert np.array_equal(shown[[0, 2]], raw[[0, 2]])


@pytest.mark.parametrize("shape", [(18, 160, 160), (5, 12, 31), (3, 1, 9), (2, 2, 3)])
@pytest.mark.parametrize("order", [0, 1])
def test_copies_of_whole_voxels_equal_interpolation(
    order: int, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a shift larger than the section, which is mirrored repeatedly."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        array = rng.integers(0, 2**32, shape, np.uint32) if order == 0 else rng.uniform(size=shape).astype(np.float32)
        displacement = movement.misalign(shape, rng)
        y, x = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in shape[1:]), indexing="ij")
        interpolated = np.stack([
            ndimage.map_coordinates(section, [y + to[0], x + to[1]], array.dtype, order=order, mode="mirror")
            for section, to in zip(array, displacement.transpose(1, 0, 2, 3), strict=True)
        ])  # fmt: skip
        with monkeypatch.context() as patch:
            patch.delattr(ndimage, "map_coordinates")
            copied = movement.moved(array, displacement, order=order)
        assert copied.dtype == array.dtype
        assert copied.tobytes() == interpolated.tobytes()


@pytest.mark.parametrize("shape", [(18, 160, 160), (7, 33, 90), (1, 5, 41)])
def test_elastic_displacements_are_interpolated_between_control_points(shape: tuple[int, int, int]) -> None:
    coarse = [max(2, round(size / spacing) + 1) for size, spacing in zip(shape, (4, 40, 40), strict=True)]
    drawn = np.random.default_rng(3).normal(0.0, 2.0, (2, *coarse)).astype(np.float32)
    zoom = [size / points for size, points in zip(shape, coarse, strict=True)]
    expected = [ndimage.zoom(part, zoom, order=1, grid_mode=True, mode="nearest") for part in drawn]
    found = movement.elastic(shape, np.random.default_rng(3))
    assert (found.dtype, found.shape) == (np.float32, (2, *shape))
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MOVEMENT)
def test_labels_move_with_the_tissue(name: str, labels: np.ndarray) -> None:
    """Raw with one grey value per label keeps its values, except for interpolated voxels."""
    painted = ((labels * 37 % 101) / 101).astype(np.float32)
    for seed in range(5):
        made = perturbed(painted, [name], np.random.default_rng(seed))
        expected = ((made.follow(labels) * 37 % 101) / 101).astype(np.float32)
        assert (np.abs(made.raw - expected) < 1e-3).mean() > 0.7
        if name == "misalign":
            assert np.allclose(made.raw, expected, atol=1e-6)


def test_a_preview_moves_labels_with_their_tissue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(0).integers(0, 200, (4, 8, 8), np.uint32).repeat(3, 1).repeat(3, 2)
    for name, array in (("raw", labels.astype(np.uint8)), ("labels", labels)):
        zarr.create_array(str(tmp_path / f"{name}.zarr"), data=array, attributes={"voxel_size": [10, 10, 10]})
    opened = open_labelled(VolumeSettings(raw="raw.zarr", labels="labels.zarr"), [str(tmp_path)])
    drawn: list[Frame] = []
    monkeypatch.setattr(
        "neuroseg.training.data.preview.contact_sheet", lambda path, frames, title: drawn.extend(frames)
    )
    draw_perturbations(tmp_path / "p.png", opened, seed=1, strength=1.0)
    assert [frame.name for frame in drawn] == ["clean", *NAMES]
    for frame in drawn:
        if frame.name in ("clean", "misalign", *TURNS):  # these do not interpolate
            assert np.array_equal(np.round(frame.raw * 255), frame.labels), frame.name


@pytest.mark.parametrize(("name", "agree", "known"), [("misalign", 1.0, 0.5), ("elastic", 0.9, 0.7),
                                                      ("rescale", 0.85, 0.4), ("fold", 0.93, 0.6)])  # fmt: skip
def test_targets_move_with_the_tissue(name: str, agree: float, known: float, labels: np.ndarray) -> None:
    clean = torch.from_numpy(affinity_targets(labels, OFFSETS)[0])
    for seed in range(6):
        made = perturbed(np.zeros(SHAPE, np.float32), [name], np.random.default_rng(seed))
        assert made.displacement is not None
        moved, mask = displaced_affinities(clean, torch.from_numpy(made.displacement), OFFSETS)
        expected = torch.from_numpy(affinity_targets(made.follow(labels), OFFSETS)[0])
        same = ((moved - expected).abs() < 0.5)[mask > 0].double().mean().item()
        assert same >= agree - 1e-9, (seed, same)
        assert mask.mean() > known


@pytest.mark.parametrize("turn", range(len(IN_PLANE)))
def test_targets_turn_with_the_tissue(turn: int, labels: np.ndarray) -> None:
    offsets = (*OFFSETS, (0, -3, 0), (0, 0, -3), (-3, 0, 0))
    clean = torch.from_numpy(affinity_targets(labels, offsets)[0])
    turned, mask = turned_affinities(clean, turn, offsets)
    expected, inside = affinity_targets(IN_PLANE[turn].apply(labels), offsets)
    assert torch.equal(turned * mask, torch.from_numpy(expected) * mask)
    assert (mask.numpy() >= inside).all(), "every link inside the crop is known"


def test_turns_without_a_matching_offset_are_masked(labels: np.ndarray) -> None:
    offsets = ((0, -1, 0),)
    transposed = next(n for n, each in enumerate(IN_PLANE) if each.permutation == (0, 2, 1))
    _, mask = turned_affinities(torch.ones(1, *SHAPE), transposed, offsets)
    assert not mask.any()


def test_a_quarter_turn_requires_a_square(raw: np.ndarray) -> None:
    with pytest.raises(InputError, match="requires crops with equal y and x"):
        perturbed(raw[:, :20], ["rotate"], np.random.default_rng(0))
    with pytest.raises(InputError, match="another crop"):
        perturbed(raw, ["mixup"], np.random.default_rng(0))
    with pytest.raises(InputError, match="misalign"):
        check_names(["noise", "missalign"])


def test_every_name_is_of_one_kind() -> None:
    assert len(set(NAMES)) == len(APPEARANCE) + len(MOVEMENT) + len(TURNS) + 1
    assert set(PUBLISHED) <= set(NAMES)
    assert IN_PLANE[UNTURNED].flips == (False, False, False)
