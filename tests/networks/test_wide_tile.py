"""The tile for GPUs: the smallest window of which at least half is kept."""

from __future__ import annotations

import itertools
import math

import pytest

from neuroseg.geometry import Triple
from neuroseg.networks.architectures import ARCHITECTURES, build_network
from neuroseg.networks.card import TileCard
from neuroseg.networks.wide_tile import gpu_tile, wide_tile
from neuroseg.networks.windows import MOST_WINDOW_VOXELS, WindowRule

LIMITS = (3_000, 20_000, 60_000)


def window(output: Triple, context: Triple) -> Triple:
    z, y, x = (o + 2 * c for o, c in zip(output, context, strict=True))
    return z, y, x


def searched(rule: WindowRule, context: Triple, least: Triple, most_voxels: int) -> tuple[Triple | None, float]:
    """The same by trying every tile."""
    best, found = (math.inf, math.inf), None
    for z, side in itertools.product(range(least[0], 150), range(max(least[1:]), 150)):
        shape = window((z, side, side), context)
        size, kept = math.prod(shape), z * side * side
        if size > most_voxels or not rule.allows(shape):
            continue
        # Wide enough ones first, by memory; the others by what they waste.
        rank = (0, size) if size <= 2 * kept else (1, size / kept)
        if rank < best:
            best, found = rank, (z, side, side)
    return found, best[1]


@pytest.mark.parametrize(
    ("rule", "context", "least"),
    [
        (WindowRule((4, 4, 4)), (2, 2, 2), (4, 4, 4)),
        (WindowRule((1, 8, 8)), (1, 4, 4), (3, 8, 8)),
        (WindowRule((1, 9, 9), (0, 7, 7), (2, 5, 5), (5, 16, 16)), (2, 5, 5), (1, 1, 1)),
        (WindowRule((1, 4, 6)), (0, 3, 3), (1, 1, 1)),
        (WindowRule((1, 1, 1)), (0, 0, 0), (5, 6, 7)),
    ],
)
@pytest.mark.parametrize("most_voxels", LIMITS)
def test_no_other_tile_is_better(rule: WindowRule, context: Triple, least: Triple, most_voxels: int) -> None:
    found = wide_tile(rule, context, least, most_voxels)
    expected, cost = searched(rule, context, least, most_voxels)
    assert (found is None) == (expected is None)
    if found is None:
        return
    size, kept = math.prod(window(found, context)), math.prod(found)
    assert rule.allows(window(found, context))
    assert size <= most_voxels
    assert (size if size <= 2 * kept else size / kept) == pytest.approx(cost)


def test_no_tile_fits_into_too_little_memory() -> None:
    assert wide_tile(WindowRule((8, 8, 8)), (8, 8, 8), (16, 16, 16), most_voxels=32**3 - 1) is None


@pytest.mark.parametrize(
    ("architecture", "output", "context", "ratio"),
    [
        ("light", (64, 64, 64), (32, 32, 32), 2.0),
        ("superhuman", (10, 80, 80), (4, 40, 40), 2.0),
        ("mala", (25, 56, 56), (14, 106, 106), 2.04),  # at most 512^3 voxels per window: not quite half is kept
    ],
)
def test_the_architectures_compute_about_two_voxels_for_each_kept(
    architecture: str, output: Triple, context: Triple, ratio: float
) -> None:
    assert architecture in ARCHITECTURES
    rule = build_network(architecture, {}).windows
    assert isinstance(rule, WindowRule)
    narrow = TileCard(output_voxels=output, context_voxels=context)
    wide = gpu_tile(rule, narrow)
    assert wide is not None
    assert narrow.computed_per_kept > 7
    assert wide.computed_per_kept <= ratio
    assert wide.window_voxels <= MOST_WINDOW_VOXELS
    assert rule.allows(window(wide.output_voxels, context))


def test_a_tile_that_is_wide_already_needs_no_other_one() -> None:
    tile = TileCard(output_voxels=(64, 64, 64), context_voxels=(4, 4, 4))
    assert gpu_tile(WindowRule((8, 8, 8)), tile) is None
