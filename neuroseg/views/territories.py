"""Sampled neurites -> which neurite owns each voxel, by an additively weighted (Apollonius) diagram.

A point belongs to the sample with the least score, its distance to the sample minus the sample's radius.
The diagram is kept on a coarse grid while neurites grow and evaluated at every voxel once they have grown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Float = NDArray[np.float32]

# The thinnest neurite is 8 voxels wide: a cell of 4 cannot lie across it without a corner inside.
CELL_VOXELS = 4
# Samples along a strand are this far apart, close enough for a thin tube without beads.
STEP_VOXELS = 2.0
# The score before there is a neurite: the first one, however far away, claims every node.
UNCLAIMED_VOXELS = 1e6
# Candidates per node and round: the nearest sample need not have the least score when radii vary.
CANDIDATES = 3
# The steps from a cell's first node to its eight corners.
CORNERS = tuple(product((0, 1), repeat=3))
# Sections evaluated at a time, which bounds the memory of their eight candidates.
CHUNK_SECTIONS = 8


@dataclass(frozen=True)
class Samples:
    """Points along neurites: positions `(n, 3)` in voxels, radii in voxels, and each one's neurite, strand and step.

    A strand is one unbranched stretch of a neurite; its samples are consecutive steps.
    """

    positions: Float
    radii: Float
    neurites: NDArray[np.int32]
    strands: NDArray[np.int32]
    steps: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.radii)

    def tangents(self) -> Float:
        """Return each strand's direction `(n, 3)`, of length 1, at its samples; 0 where a strand is a single one."""
        ahead = np.zeros_like(self.positions)
        if len(self) > 1:
            same = (self.strands[1:] == self.strands[:-1])[:, None]
            between = np.diff(self.positions, axis=0) * same
            ahead[:-1] += between
            ahead[1:] += between
        tangents: Float = ahead / np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-6)
        return tangents

    def taken(self, rows: NDArray[np.integer]) -> Samples:
        """Return the samples of the chosen rows, in their order."""
        return Samples(*(getattr(self, field.name)[rows] for field in fields(self)))


def joined_samples(parts: Sequence[Samples]) -> Samples:
    """Return all samples of `parts`, at least one, in their order."""
    return Samples(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Samples)))


@dataclass(frozen=True)
class Territory:
    """The diagram on a coarse grid: the least score at each node, in voxels, and the sample that has it (-1: none)."""

    score: Float
    winner: NDArray[np.int32]

    def cell(self, positions: Float) -> NDArray[np.intp]:
        """Return the index `(n, 3)` of the node before each position `(n, 3)`; outside counts as the nearest cell."""
        return np.clip((positions / CELL_VOXELS).astype(np.intp), 0, np.array(self.score.shape) - 2)


def unclaimed(shape: tuple[int, int, int]) -> Territory:
    """Return the territory of a volume without neurites."""
    nodes = [(length - 1) // CELL_VOXELS + 2 for length in shape]
    return Territory(np.full(nodes, UNCLAIMED_VOXELS, np.float32), np.full(nodes, -1, np.int32))


def claimed(territory: Territory, samples: Samples, first_index: int) -> Territory:
    """Return `territory` after `samples`, numbered from `first_index`, took the nodes where they score least."""
    if not len(samples):
        return territory
    # A sample's score is at least minus its radius, so nodes deeper than that inside a neurite are not asked.
    open_nodes = np.flatnonzero(territory.score > -samples.radii.max())
    positions = np.stack(np.unravel_index(open_nodes, territory.score.shape), axis=1) * CELL_VOXELS
    distances, nearest = cKDTree(samples.positions).query(
        positions, k=np.arange(1, CANDIDATES + 1), distance_upper_bound=territory.score.max() + samples.radii.max()
    )
    # Missing candidates have an infinite distance and the index one past the last sample.
    scores = distances - np.append(samples.radii, 0)[nearest]
    best = scores.argmin(axis=1)[:, None]
    score = np.take_along_axis(scores, best, 1)[:, 0]
    won = score < territory.score.ravel()[open_nodes]
    least, winner = territory.score.copy(), territory.winner.copy()
    least.ravel()[open_nodes[won]] = score[won]
    winner.ravel()[open_nodes[won]] = np.take_along_axis(nearest, best, 1)[won, 0] + first_index
    return Territory(least, winner)


def neurite_at_voxels(territory: Territory, samples: Samples, displacement: Float) -> NDArray[np.uint32]:
    """Return the neurite `(z, y, x)`, from 0, that owns each voxel moved by `displacement` `(3, z, y, x)` voxels.

    A voxel's candidates are the winners at the eight corners of its cell.
    """
    shape = displacement.shape[1:]
    nodes = samples.neurites[territory.winner]
    contested = _contested(nodes)
    owners = np.empty(shape, np.uint32)
    plane = np.indices((1, *shape[1:]), np.float32)
    for start in range(0, shape[0], CHUNK_SECTIONS):
        moved = displacement[:, start : start + CHUNK_SECTIONS] + plane
        moved[0] += np.arange(start, start + moved.shape[1], dtype=np.float32)[:, None, None]
        positions = moved.reshape(3, -1).T
        cells = np.ravel_multi_index(tuple(territory.cell(positions).T), nodes.shape)
        chunk = nodes.ravel()[cells]
        asked = np.flatnonzero(contested.ravel()[cells])
        chunk[asked] = samples.neurites[_winners(territory, samples, positions[asked], cells[asked])]
        owners[start : start + CHUNK_SECTIONS] = chunk.reshape(moved.shape[1:])
    return owners


def _contested(nodes: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return, at each cell's first node, whether the cell's eight corners differ."""
    least = most = nodes[:-1, :-1, :-1]
    for z, y, x in CORNERS:
        corner = nodes[z : z - 1 or None, y : y - 1 or None, x : x - 1 or None]
        least, most = np.minimum(least, corner), np.maximum(most, corner)
    contested = np.zeros(nodes.shape, bool)
    contested[:-1, :-1, :-1] = least != most
    return contested


def _winners(territory: Territory, samples: Samples, positions: Float, cells: NDArray[np.intp]) -> NDArray[np.int32]:
    """Return the index of the sample of least score at each of the positions `(n, 3)` in `cells`.

    The distance is to the strand's tangent near the sample, so that tubes are smooth between samples.
    """
    tubes = np.column_stack([samples.positions, samples.radii, samples.tangents()])
    strides = np.array(territory.score.strides) // territory.score.itemsize
    best_score = np.full(len(positions), np.inf, np.float32)
    best = np.zeros(len(positions), np.int32)
    for corner in CORNERS:
        candidates = territory.winner.ravel()[cells + int(np.dot(corner, strides))]
        tube = tubes[candidates]
        offsets = positions - tube[:, :3]
        along = np.clip(np.einsum("ij,ij->i", offsets, tube[:, 4:]), -CELL_VOXELS, CELL_VOXELS)
        offsets -= along[:, None] * tube[:, 4:]
        scores = np.sqrt(np.einsum("ij,ij->i", offsets, offsets)) - tube[:, 3]
        better = scores < best_score
        best_score[better] = scores[better]
        best[better] = candidates[better]
    return best
