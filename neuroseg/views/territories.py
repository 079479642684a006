"""Samples of neurites -> the neurite at each voxel, by an additively weighted Voronoi (Apollonius) diagram.

A point belongs to the sample with the lowest score: distance to the sample minus radius of the sample. While neurites
grow, the diagram is stored on a coarse grid. Afterwards it is evaluated at every voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Float = NDArray[np.float32]

# The thinnest neurite is 8 voxels wide, so every neurite contains corners of cells of 4 voxels.
CELL_VOXELS = 4
# Distance of samples along a strand, small enough for a smooth thin tube.
STEP_VOXELS = 2.0
# Score of nodes before the first neurite: greater than any distance in a volume.
UNCLAIMED_VOXELS = 1e6
# Candidates per node and round: with different radii, the nearest sample may not have the lowest score.
CANDIDATES = 3
# Offsets from the first node of a cell to its eight corners.
CORNERS = tuple(product((0, 1), repeat=3))
# Sections evaluated together. This limits the memory for their eight candidates.
CHUNK_SECTIONS = 8


@dataclass(frozen=True)
class Samples:
    """Points along neurites: positions `(n, 3)` and radii in voxels, and neurite, strand and step of each point.

    A strand is an unbranched part of a neurite. Its samples are consecutive steps.
    """

    positions: Float
    radii: Float
    neurites: NDArray[np.int32]
    strands: NDArray[np.int32]
    steps: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.radii)

    def tangents(self) -> Float:
        """Return the direction `(n, 3)` of the strand at each sample, of length 1. 0 for a strand of one sample."""
        ahead = np.zeros_like(self.positions)
        if len(self) > 1:
            same = (self.strands[1:] == self.strands[:-1])[:, None]
            between = np.diff(self.positions, axis=0) * same
            ahead[:-1] += between
            ahead[1:] += between
        tangents: Float = ahead / np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-6)
        return tangents

    def taken(self, rows: NDArray[np.integer]) -> Samples:
        """Return the samples of `rows`, in that order."""
        return Samples(*(getattr(self, field.name)[rows] for field in fields(self)))


def joined_samples(parts: Sequence[Samples]) -> Samples:
    """Return all samples of `parts`, in order. `parts` must not be empty."""
    return Samples(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Samples)))


@dataclass(frozen=True)
class Territory:
    """The diagram on a coarse grid: the lowest score at each node, in voxels, and its sample (-1: none)."""

    score: Float
    winner: NDArray[np.int32]

    def cell(self, positions: Float) -> NDArray[np.intp]:
        """Return the index `(n, 3)` of the first node of the cell at each position `(n, 3)`. Clip positions outside."""
        return np.clip((positions / CELL_VOXELS).astype(np.intp), 0, np.array(self.score.shape) - 2)


def unclaimed(shape: tuple[int, int, int]) -> Territory:
    """Return the territory of a volume without neurites."""
    nodes = [(length - 1) // CELL_VOXELS + 2 for length in shape]
    return Territory(np.full(nodes, UNCLAIMED_VOXELS, np.float32), np.full(nodes, -1, np.int32))


def claimed(territory: Territory, samples: Samples, first_index: int) -> Territory:
    """Return `territory` after adding `samples`, numbered from `first_index`, at nodes where their score is lowest."""
    if not len(samples):
        return territory
    # The score of a sample is at least minus its radius, so skip nodes that are deeper inside a neurite.
    candidate_nodes = np.flatnonzero(territory.score > -samples.radii.max())
    positions = np.stack(np.unravel_index(candidate_nodes, territory.score.shape), axis=1) * CELL_VOXELS
    distances, nearest = cKDTree(samples.positions).query(
        positions, k=np.arange(1, CANDIDATES + 1), distance_upper_bound=territory.score.max() + samples.radii.max()
    )
    # Missing candidates have distance infinity and an index past the last sample.
    scores = distances - np.append(samples.radii, 0)[nearest]
    best = scores.argmin(axis=1)[:, None]
    score = np.take_along_axis(scores, best, 1)[:, 0]
    won = score < territory.score.ravel()[candidate_nodes]
    least, winner = territory.score.copy(), territory.winner.copy()
    least.ravel()[candidate_nodes[won]] = score[won]
    winner.ravel()[candidate_nodes[won]] = np.take_along_axis(nearest, best, 1)[won, 0] + first_index
    return Territory(least, winner)


def neurite_at_voxels(territory: Territory, samples: Samples, displacement: Float) -> NDArray[np.uint32]:
    """Return the neurite `(z, y, x)`, from 0, of each voxel moved by `displacement` `(3, z, y, x)` voxels.

    The candidates of a voxel are the samples at the eight corners of its cell.
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
        unclear = np.flatnonzero(contested.ravel()[cells])
        chunk[unclear] = samples.neurites[_winners(territory, samples, positions[unclear], cells[unclear])]
        owners[start : start + CHUNK_SECTIONS] = chunk.reshape(moved.shape[1:])
    return owners


def _contested(nodes: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return, at the first node of each cell, whether its eight corners belong to different neurites."""
    least = most = nodes[:-1, :-1, :-1]
    for z, y, x in CORNERS:
        corner = nodes[z : z - 1 or None, y : y - 1 or None, x : x - 1 or None]
        least, most = np.minimum(least, corner), np.maximum(most, corner)
    contested = np.zeros(nodes.shape, bool)
    contested[:-1, :-1, :-1] = least != most
    return contested


def _winners(territory: Territory, samples: Samples, positions: Float, cells: NDArray[np.intp]) -> NDArray[np.int32]:
    """Return the sample with the lowest score at each position `(n, 3)` in `cells`.

    Use the distance to the tangent of the strand near the sample, so that tubes are smooth between samples.
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
