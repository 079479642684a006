"""Array of fragments and their bounding boxes -> voxels on a contact, and the tip of a segment.

Reads only the boxes of the fragments in question, in pieces of limited size.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.blocks import Lattice
from neuroseg.evaluation.boxes import BOX_VOXELS, box_shape
from neuroseg.evaluation.suspect import plain
from neuroseg.geometry import Nanometres, Triple, grown
from neuroseg.tables import Table
from neuroseg.volumes.volume import Volume

_ONE = (1, 1, 1)


def box_of(nodes: Table, row: int) -> Roi:
    """Return the bounding box of a fragment, a row of a table with the columns of tables.NODES."""
    begin = [int(nodes[f"min_{axis}"][row]) for axis in "zyx"]
    return Roi(begin, [int(nodes[f"max_{axis}"][row]) + 1 - b for axis, b in zip("zyx", begin, strict=True)])


def contact_place(
    fragments: Volume,
    u: tuple[int, Roi],
    v: tuple[int, Roi],
    voxel_size_nm: Nanometres,
    *,
    box_voxels: int = BOX_VOXELS,
) -> tuple[Triple, Triple] | None:
    """Return the voxel pair, first in u and then in v, that is nearest to the middle of the contact of two fragments.

    `u` and `v`: id and bounding box of each fragment. The middle is the mean of all voxel pairs that share a face. Of
    equally near pairs, the first by z, y, x is returned. None if the fragments do not touch.
    """
    region = grown(u[1], _ONE, fragments.roi).intersect(grown(v[1], _ONE, fragments.roi))
    pairs = [np.zeros((0, 6), np.int64)]
    for read, write in _pieces(fragments, region, box_voxels, grown_by=_ONE):
        pairs.append(_pairs(fragments.read(read), u[0], v[0], read, write))
    found = np.concatenate(pairs)
    if not len(found):
        return None
    # Sort the pairs, so that equal distances have the same winner for every box size.
    found = found[np.lexsort(found.T[::-1])]
    middles = found[:, :3] + found[:, 3:]
    from_mean = (middles * len(found) - middles.sum(axis=0)) * np.array(voxel_size_nm)
    nearest = found[np.argmin((from_mean**2).sum(axis=1))]
    return plain(nearest[:3]), plain(nearest[3:])


def _pairs(labels: NDArray[np.integer], u: int, v: int, read: Roi, write: Roi) -> NDArray[np.int64]:
    """Return (z, y, x of u, z, y, x of v) of the pairs of voxels that share a face, if u's voxel is in `write`."""
    is_u, is_v, found = labels == np.uint64(u), labels == np.uint64(v), []
    for axis in range(3):
        lower, upper = [slice(None)] * 3, [slice(None)] * 3
        lower[axis], upper[axis] = slice(None, -1), slice(1, None)
        step = np.zeros(3, np.int64)
        step[axis] = 1
        at = np.argwhere(is_u[tuple(lower)] & is_v[tuple(upper)])
        found.append(np.concatenate([at, at + step], axis=1))
        at = np.argwhere(is_v[tuple(lower)] & is_u[tuple(upper)])
        found.append(np.concatenate([at + step, at], axis=1))
    pairs = np.concatenate(found) + np.tile(np.array(read.begin, np.int64), 2)
    inside = (pairs[:, :3] >= np.array(write.begin)) & (pairs[:, :3] < np.array(write.end))
    return pairs[inside.all(axis=1)]


def tip_place(
    fragments: Volume,
    nodes: Table,
    rows: NDArray[np.int64],
    voxel_size_nm: Nanometres,
    *,
    box_voxels: int = BOX_VOXELS,
) -> tuple[Triple, int]:
    """Return the voxel of a segment that is farthest from its centre, and the row of its fragment.

    `rows`: the rows of the segment's fragments in `nodes` (columns of tables.NODES). The centre is the mean position of
    the voxels, the distance is measured in nm. Of equally far voxels, the first by z, y, x is returned.
    """
    size = np.array(voxel_size_nm)
    voxels = int(nodes["voxel_count"][rows].astype(np.int64).sum())
    centre = np.array([int(nodes[f"sum_{axis}"][rows].sum()) / voxels for axis in "zyx"])
    begin, last = (
        np.stack([nodes[f"{name}_{axis}"][rows] for axis in "zyx"], axis=1).astype(np.int64) for name in ("min", "max")
    )
    # No voxel of a fragment is farther away than a corner of its bounding box.
    limits = ((np.maximum(abs(begin - centre), abs(last - centre)) * size) ** 2).sum(axis=1)
    best: tuple[float, Triple, int] | None = None
    for number in np.argsort(-limits, kind="stable").tolist():
        if best is not None and limits[number] < -best[0]:
            break
        row = int(rows[number])
        for read, _ in _pieces(fragments, box_of(nodes, row), box_voxels, grown_by=(0, 0, 0)):
            at = np.argwhere(fragments.read(read) == nodes["fragment"][row]) + np.array(read.begin, np.int64)
            if len(at):
                far = (((at - centre) * size) ** 2).sum(axis=1)
                farthest = int(np.argmax(far))
                found = (-float(far[farthest]), plain(at[farthest]), row)
                best = found if best is None else min(best, found)
    assert best is not None, "a segment has voxels"
    return best[1], best[2]


def _pieces(fragments: Volume, region: Roi, box_voxels: int, grown_by: Triple) -> Iterator[tuple[Roi, Roi]]:
    """Yield (region to read, region to count) of pieces that cover a region, aligned to the chunks."""
    shape = box_shape(fragments.chunks or _ONE, fragments.shape, box_voxels)
    for block in Lattice(fragments.shape, shape, region).blocks(grown_by):
        yield block.read_roi, block.write_roi
