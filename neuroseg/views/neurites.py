"""The shape of a volume -> branching neurites that fill it, as samples along their centre lines.

Each round grows neurites of one radius from free places in two directions, thick neurites first. They bend away from
existing neurites, so that thin neurites fill the gaps between thick ones.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from neuroseg.views.territories import (
    CELL_VOXELS,
    STEP_VOXELS,
    Float,
    Samples,
    Territory,
    claimed,
    joined_samples,
    unclaimed,
)
from neuroseg.views.tips import Tips, advanced, branches, first_tips

# (radius in voxels, share of the volume that the neurites of the round would fill if they crossed it), thickest first.
ROUNDS = (
    (17.0, 0.12),
    (14.0, 0.16),
    (11.0, 0.18),
    (8.0, 0.12),
    (8.0, 0.10),
    (6.0, 0.10),
    (5.0, 0.10),
    (4.0, 0.10),
    (4.0, 0.10),
)


def grown_neurites(shape: tuple[int, int, int], rng: np.random.Generator) -> tuple[Samples, Territory]:
    """Return the samples of neurites that fill a volume of `shape` (at least one neurite), and their territory."""
    territory = unclaimed(shape)
    samples = _no_samples()
    for radius, share in ROUNDS:
        seeds = _seeds(territory, shape, radius, share, rng)
        strand_count, neurite_count = (int(ids.max(initial=-1)) + 1 for ids in (samples.strands, samples.neurites))
        grown = _grown(seeds, territory, shape, radius, rng)
        numbered = Samples(
            grown.positions, grown.radii, grown.neurites + neurite_count, grown.strands + strand_count, grown.steps
        )
        territory = claimed(territory, numbered, len(samples))
        samples = joined_samples([samples, numbered])
    return samples, territory


def _no_samples() -> Samples:
    none = np.zeros(0, np.int32)
    return Samples(np.zeros((0, 3), np.float32), np.zeros(0, np.float32), none, none, none)


def _seeds(
    territory: Territory, shape: tuple[int, int, int], radius: float, share: float, rng: np.random.Generator
) -> Float:
    """Return random places `(n, 3)` with space for neurites of `radius`, which fill about `share` of the volume."""
    length = math.prod(shape) ** (1 / 3)
    count = int(share * math.prod(shape) / (math.pi * radius**2 * length) + rng.uniform())
    if not (territory.winner >= 0).any() and radius == ROUNDS[-1][0]:
        count = max(count, 1)
    nodes = rng.permutation(np.argwhere(territory.score > 0.8 * radius))[:count]
    # The grid is slightly larger than the volume. Seeds must lie inside the volume.
    places = np.clip((nodes + rng.uniform(-0.5, 0.5, nodes.shape)) * CELL_VOXELS, 0, np.array(shape) - 1)
    # Neurites of one round ignore each other while they grow, so keep their seeds apart.
    close = cKDTree(places).query_pairs(3 * radius, output_type="ndarray") if len(places) else np.zeros((0, 2), int)
    kept: Float = np.delete(places, np.unique(close[:, 1]), axis=0).astype(np.float32)
    return kept


def _grown(
    seeds: Float, territory: Territory, shape: tuple[int, int, int], radius: float, rng: np.random.Generator
) -> Samples:
    """Return the samples of one neurite per seed, numbered from 0, ordered by strand and step."""
    tips = first_tips(seeds, radius, rng)
    slopes = np.stack([np.gradient(territory.score, CELL_VOXELS, axis=axis) for axis in range(3)], axis=-1)
    strand_count = len(tips)
    parts = [_no_samples()]
    for step in range(int(sum(shape) / STEP_VOXELS)):
        tips = tips.taken(_can_grow(tips, territory, shape))
        if not len(tips):
            break
        node = _nearest_node(tips, territory)
        clearance, slope = territory.score[node], slopes[node]
        # A neurite is thinner if there is little space between its neighbours.
        calibre = np.clip(clearance + 1, 0.5 * tips.radius, tips.radius * np.exp(tips.swelling))
        steps = np.full(len(tips), step, np.int32)
        parts.append(Samples(tips.position, calibre.astype(np.float32), tips.neurite, tips.strand, steps))
        tips = advanced(tips, clearance, slope, rng)
        added = branches(tips, strand_count, rng)
        strand_count += len(added)
        tips = tips.joined(added)
    samples = joined_samples(parts)
    return samples.taken(np.lexsort((samples.steps, samples.strands)))


def _can_grow(tips: Tips, territory: Territory, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return a mask of the tips that are outside other neurites and at most their radius outside the volume."""
    margin = tips.radius[:, None]
    inside = ((tips.position > -margin) & (tips.position < np.array(shape) + margin)).all(axis=1)
    free: NDArray[np.bool_] = territory.score[_nearest_node(tips, territory)] > -1
    return inside & free


def _nearest_node(tips: Tips, territory: Territory) -> tuple[NDArray[np.intp], ...]:
    """Return the index of the territory's node nearest to each tip."""
    return tuple(territory.cell(tips.position + CELL_VOXELS / 2).T)
