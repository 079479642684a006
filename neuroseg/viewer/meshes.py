"""The mesh of a segment at the threshold shown, made when a viewer asks for it.

    rows of the segment's fragments -> bounding box -> fragments of that box at a suitable level -> mesh_of

Legacy meshes of neuroglancer: https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/meshes.md
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.viewer.cuts import Tree
from neuroseg.viewer.layers import Layer
from neuroseg.viewer.sampled_levels import Level, read_level
from neuroseg.views.mesh import mesh_of

# A box with more voxels is read at a coarser level.
_MOST_VOXELS = 8_000_000
# Only the pieces of the box are read that the fragments of the segment touch. A larger segment has no mesh.
_PIECE_VOXELS = 128
_MOST_READ_VOXELS = 4_000_000_000

INFO = {"@type": "neuroglancer_legacy_mesh"}


def encoded_mesh(
    fragments: Layer, levels: Sequence[Level], tree: Tree, names: NDArray[np.uint64], segment: int
) -> bytes:
    """Return the mesh of the fragments whose name is `segment`: empty if there is none.

    `names` has the name of each row of the nodes (cuts.py). The vertices (x, y, z) are in nm from voxel (0, 0, 0) of
    the layer. Segments with a large box are drawn with coarser voxels. There is no mesh if more than 4 Gvoxel would be
    read.
    """
    rows = np.flatnonzero(names == np.uint64(segment))
    if segment == 0 or not len(rows):
        return _encoded(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    begins, lasts = tree.boxes_of(rows)
    begin, end = begins.min(1).tolist(), (lasts.max(1) + 1).tolist()
    level = next((each for each in levels if _voxels(begin, end, each) <= _MOST_VOXELS), levels[-1])
    low = [b // f for b, f in zip(begin, level.factor, strict=True)]
    high = [min(-(-e // f), n) for e, f, n in zip(end, level.factor, level.shape, strict=True)]
    found = tree.rows_of(read_level(fragments, level, Roi(low, [h - b for b, h in zip(low, high, strict=True)])))
    wanted = np.zeros(len(names) + 1, np.uint8)
    wanted[rows] = 1  # the last entry is that of voxels without a fragment, row -1
    size = [edge * factor for edge, factor in zip(fragments.voxel_size_nm, level.factor, strict=True)]
    corner = [b * edge for b, edge in zip(low, size, strict=True)]
    return _encoded(*mesh_of(wanted[found], 1, size, corner))


def _voxels(begin: Sequence[int], end: Sequence[int], level: Level) -> int:
    return math.prod(-(-(e - b) // f) + 1 for b, e, f in zip(begin, end, level.factor, strict=True))


def _encoded(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> bytes:
    count = np.array([len(vertices)], "<u4").tobytes()
    return count + vertices[:, ::-1].astype("<f4").tobytes() + faces[:, ::-1].astype("<u4").tobytes()
