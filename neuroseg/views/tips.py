"""Growing tips of neurites, which bend, swell, branch and stop step by step."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from neuroseg.views.territories import STEP_VOXELS, Float

# Mean distance between branches of a strand. Strands of the last generation do not branch.
BRANCH_SPACING_VOXELS = 80.0
MAX_GENERATION = 2
# No branch is thinner than this radius.
MIN_RADIUS_VOXELS = 3.5


@dataclass(frozen=True)
class Tips:
    """One row per tip: position `(n, 3)` in voxels, heading `(n, 3)` of length 1, and properties of the neurite."""

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
        """Return the tips selected by the mask `rows`."""
        return Tips(*(getattr(self, field.name)[rows] for field in fields(self)))

    def joined(self, other: Tips) -> Tips:
        """Return these tips followed by `other`."""
        return Tips(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


def first_tips(seeds: Float, radius: float, rng: np.random.Generator) -> Tips:
    """Return two tips per seed `(n, 3)` with opposite headings. Neurites and strands are numbered from 0."""
    count = len(seeds)
    heading = rng.standard_normal((count, 3), np.float32)
    neurite = np.arange(count, dtype=np.int32)
    one_way = Tips(
        position=seeds,
        heading=_unit(heading),
        turn=np.zeros_like(heading),
        radius=(radius * rng.uniform(0.9, 1.15, count)).astype(np.float32),
        swelling=np.zeros(count, np.float32),
        # Most neurites are fairly straight, a few are tortuous.
        tortuosity=(0.6 * rng.beta(1.0, 2.5, count)).astype(np.float32),
        generation=np.zeros(count, np.int32),
        neurite=neurite,
        strand=neurite,
    )
    return one_way.joined(replace(one_way, heading=-one_way.heading, strand=neurite + np.int32(count)))


def advanced(tips: Tips, clearance: Float, slope: Float, rng: np.random.Generator) -> Tips:
    """Return `tips` one step ahead. They turn at random, and up the `slope` if their `clearance` is small."""
    turn = 0.85 * tips.turn + 0.5 * rng.standard_normal(tips.turn.shape, np.float32)
    crowding = np.clip((1.3 * tips.radius + 2 - clearance) / tips.radius, 0, 1)
    # Thick neurites bend less.
    bend = tips.tortuosity[:, None] * turn * (4 / tips.radius[:, None]) ** 0.5
    heading = _unit(tips.heading + bend + 0.5 * crowding[:, None] * slope)
    swelling = 0.95 * tips.swelling + 0.06 * rng.standard_normal(len(tips), np.float32)
    position = tips.position + np.float32(STEP_VOXELS) * heading
    return replace(tips, position=position, heading=heading, turn=turn, swelling=swelling)


def branches(tips: Tips, first_strand: int, rng: np.random.Generator) -> Tips:
    """Return new tips for the `tips` that branch in this step, thinner and with a turned heading."""
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
