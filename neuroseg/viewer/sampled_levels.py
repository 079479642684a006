"""Coarser levels of a layer, sampled when a viewer asks for them: nothing is written.

Level k has the voxels of `level_factors`, which also the stored pyramid of a segmentation has. A voxel of it has the
value in the middle of the voxels that it covers. So a label is always one that exists.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.geometry import Triple, triple
from neuroseg.segmentation.pyramid import level_factors
from neuroseg.viewer.layers import Layer

# A region is read in pieces of at most this many voxels along an axis, because a coarse level covers much of a volume.
_PIECE_VOXELS = 512


@dataclass(frozen=True)
class Level:
    """One level of a layer: its shape in its own voxels, and how many voxels of the volume one of them covers."""

    factor: Triple
    shape: Triple


def levels_of(layer: Layer) -> list[Level]:
    """Return the levels of a layer, the full resolution first."""
    levels = [Level((1, 1, 1), layer.shape)]
    for step in level_factors(layer.shape, layer.voxel_size_nm):
        last = levels[-1]
        factor = triple([f * s for f, s in zip(last.factor, step, strict=True)])
        levels.append(Level(factor, triple([-(-n // s) for n, s in zip(last.shape, step, strict=True)])))
    return levels


def read_level(
    layer: Layer, level: Level, roi: Roi, wanted: NDArray[np.bool_] | None = None, piece_voxels: int = _PIECE_VOXELS
) -> NDArray[Any]:
    """Return a region of a level, `(z, y, x)`, or `(c, z, y, x)` for affinities. `roi` is in voxels of the level.

    It is read in pieces of `piece_voxels` voxels of the volume along an axis. `wanted`: whether to read each piece
    (`touched_pieces`). The others are 0.
    """
    if level.factor == (1, 1, 1) and wanted is None:
        return layer.read(roi)
    lead = (layer.channels,) if layer.channels > 1 else ()
    out = np.zeros((*lead, *roi.shape), layer.dtype)
    axes = [
        _pieces(begin, size, factor, extent, piece_voxels)
        for begin, size, factor, extent in zip(roi.begin, roi.shape, level.factor, layer.shape, strict=True)
    ]
    for number, places in enumerate(itertools.product(*axes)):
        if wanted is not None and not wanted.flat[number]:
            continue
        targets, samples = zip(*places, strict=True)
        begins = [int(sample[0]) for sample in samples]
        piece = layer.read(
            Roi(begins, [int(sample[-1]) - begin + 1 for sample, begin in zip(samples, begins, strict=True)])
        )
        chosen = np.ix_(*[sample - begin for sample, begin in zip(samples, begins, strict=True)])
        out[(..., *targets)] = piece[(..., *chosen)]
    return out


def touched_pieces(
    level: Level, roi: Roi, begins: NDArray[np.integer], lasts: NDArray[np.integer], piece_voxels: int
) -> NDArray[np.bool_]:
    """Return which pieces of `read_level` touch some boxes, an array with one value per piece along z, y and x.

    `begins`, `lasts` `(3, n)`: the first and the last voxel of each box, in voxels of the volume.
    """
    step = np.array([_step(factor, piece_voxels) for factor in level.factor])
    counts = -(-np.array(roi.shape) // step)
    factor, begin = np.array(level.factor)[:, None], np.array(roi.begin)[:, None]
    ends = [(bound.astype(np.int64) // factor - begin) // step[:, None] for bound in (begins, lasts)]
    low, high = (np.clip(end, 0, counts[:, None] - 1) for end in ends)
    touched = np.zeros(counts.tolist(), bool)
    for z, y, x, z_last, y_last, x_last in np.unique(np.concatenate([low, high]), axis=1).T.tolist():
        touched[z : z_last + 1, y : y_last + 1, x : x_last + 1] = True
    return touched


def _step(factor: int, piece_voxels: int) -> int:
    """Return how many voxels of a level a piece has along an axis."""
    return max(1, piece_voxels // factor)


def _pieces(
    begin: int, size: int, factor: int, extent: int, piece_voxels: int
) -> list[tuple[slice, NDArray[np.int64]]]:
    """Return for each piece of an axis where its voxels of the level go, and which voxels of the volume they sample."""
    step = _step(factor, piece_voxels)
    pieces = []
    for first in range(0, size, step):
        last = min(size, first + step)
        samples = np.arange(begin + first, begin + last) * factor + factor // 2
        pieces.append((slice(first, last), np.minimum(samples, extent - 1)))
    return pieces
