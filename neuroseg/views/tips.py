"""The growing tips of neurites, one step after another: they bend, swell, branch and stop."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from neuroseg.views.territories import STEP_VOXELS, Float

# A strand branches once in this many voxels; branches of branches of branches do not.
BRANCH_SPACING_VOXELS = 80.0
MAX_GENERATION = 2
# No branch is thinner than this radius.
MIN_RADIUS_VOXELS = 3.5


@dataclass(frozen=True)
class Tips:
    """One row per tip: where it is, where it heads (`(n, 3)`, voxels and length 1), and what grows there."""

    position: Float
    heading: Float
    turn: Float
    radius: Float
    swelling: Float
    tortuosity: Float
    generation: NDArray[np.int32]
    neurite: NDArray[np.int32]
    strand: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.radius)

    def taken(self, rows: NDArray[np.bool_]) -> Tips:
        """Return the tips of the chosen rows."""
        return Tips(*(getattr(self, field.name)[rows] for field in fields(self)))

    def joined(self, other: Tips) -> Tips:
        """Return both sets of tips, `other` last."""
        return Tips(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


def first_tips(seeds: Float, radius: float, rng: np.random.Generator) -> Tips:
    """Return two tips per seed `(n, 3)`, heading opposite ways; neurite and strand numbers start from 0."""
    count = len(seeds)
    heading = rng.standard_normal((count, 3), np.float32)
    neurite = np.arange(count, dtype=np.int32)
    one_way = Tips(
        position=seeds,
        heading=_unit(heading),
        turn=np.zeros_like(heading),
        radius=(radius * rng.uniform(0.9, 1.15, count)).astype(np.float32),
        swelling=np.zeros(count, np.float32),
        # Most neurites run fairly straight, a few wind.
        tortuosity=(0.6 * rng.beta(1.0, 2.5, count)).astype(np.float32),
        generation=np.zeros(count, np.int32),
        neurite=neurite,
        strand=neurite,
    )
    return one_way.joined(replace(one_way, heading=-one_way.heading, strand=neurite + np.int32(count)))


def advanced(tips: Tips, clearance: Float, slope: Float, rng: np.random.Generator) -> Tips:
    """Return `tips` a step further along their headings, turned at random and up the `slope` of a small `clearance`."""
    turn = 0.85 * tips.turn + 0.5 * rng.standard_normal(tips.turn.shape, np.float32)
    crowding = np.clip((1.3 * tips.radius + 2 - clearance) / tips.radius, 0, 1)
    # Thick neurites wind less.
    bend = tips.tortuosity[:, None] * turn * (4 / tips.radius[:, None]) ** 0.5
    heading = _unit(tips.heading + bend + 0.5 * crowding[:, None] * slope)
    swelling = 0.95 * tips.swelling + 0.06 * rng.standard_normal(len(tips), np.float32)
    position = tips.position + np.float32(STEP_VOXELS) * heading
    return replace(tips, position=position, heading=heading, turn=turn, swelling=swelling)


def branches(tips: Tips, first_strand: int, rng: np.random.Generator) -> Tips:
    """Return new tips, thinner and heading aside, of the few `tips` that branch in this step."""
    branching = rng.uniform(size=len(tips)) < STEP_VOXELS / BRANCH_SPACING_VOXELS
    parents = tips.taken(branching & (tips.generation < MAX_GENERATION))
    aside = rng.standard_normal((len(parents), 3), np.float32)
    radius = np.maximum(parents.radius * rng.uniform(0.35, 0.8, len(parents)), MIN_RADIUS_VOXELS)
    return replace(
        parents,
        heading=_unit(parents.heading + 0.8 * aside),
        turn=np.zeros_like(aside),
        radius=radius.astype(np.float32),
        swelling=np.zeros(len(parents), np.float32),
        generation=parents.generation + 1,
        strand=np.arange(first_strand, first_strand + len(parents), dtype=np.int32),
    )


def _unit(vectors: Float) -> Float:
    """Return `(n, 3)` vectors of length 1."""
    unit: Float = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit
