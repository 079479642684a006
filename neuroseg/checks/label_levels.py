"""Labels on disk -> regions at any level of their pyramid, and the size and bounding box of each segment.

Nothing is read as a whole: regions are read in pieces, and levels that are not stored are computed from finer ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import fastremap
import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from neuroseg.blocks import Lattice
from neuroseg.checks.score import opened_labels
from neuroseg.evaluation.contingency import GrowingTable
from neuroseg.evaluation.evaluate import require_labels
from neuroseg.geometry import Nanometres, Triple, slices, triple, whole
from neuroseg.runs.finished import is_finished
from neuroseg.runs.plan import read_plan
from neuroseg.segmentation.pyramid import level_factors
from neuroseg.segmentation.relabel import downsampled
from neuroseg.segmentation.segments import segments_table
from neuroseg.storage.merges import read_nodes
from neuroseg.storage.parts import map_lookup
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import Table
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.metadata import ome_levels
from neuroseg.volumes.volume import Volume, require_voxel_size
from neuroseg.volumes.zarr_nodes import open_node

_PIECE_VOXELS = 256  # longest edge of the voxels that are read for one piece
# Boxes are searched in the finest stored level with at most so many voxels: seconds, and small segments are found.
_MOST_SEARCHED_VOXELS = 2**27
_BOXES = {"segment": np.uint64, "voxels": np.uint64} | {
    f"{bound}_{axis}": np.int64 for bound in ("min", "max") for axis in "zyx"
}
_SAME: Triple = (1, 1, 1)

Pick = Callable[[NDArray[np.uint64]], NDArray[Any]]


@dataclass(frozen=True)
class StoredLabels:
    """Labels and their pyramid. `factors`: downsampling of each level. `stored`: the levels that are on disk.

    `workspace` is None for an array.
    """

    address: str
    volume: Volume
    voxel_size_nm: Nanometres
    factors: tuple[Triple, ...]
    stored: tuple[tuple[Triple, Volume], ...]
    workspace: Workspace | None

    def read(self, region: Roi, factors: Triple, pick: Pick | None = None) -> NDArray[Any]:
        """Return a region downsampled by `factors`, each voxel the most frequent label, `(z, y, x)`.

        `region` is in voxels of full resolution and begins at a multiple of `factors` of the region's grid. `pick`:
        applied to each piece that is read, so that less memory is needed.
        """
        step, source = max(
            (level for level in self.stored if _fits(level[0], factors, region)), key=lambda each: math.prod(each[0])
        )
        rest = triple([f // s for f, s in zip(factors, step, strict=True)])
        begin = [b // s for b, s in zip(region.begin, step, strict=True)]
        end = [min(-(-e // s), n) for e, s, n in zip(region.end, step, source.shape, strict=True)]
        shape = triple([-(-(e - b) // r) for b, e, r in zip(begin, end, rest, strict=True)])
        out: NDArray[Any] | None = None
        for piece in _pieces(shape, rest):
            low = [b + p * r for b, p, r in zip(begin, piece.begin, rest, strict=True)]
            high = [min(b + p * r, e) for b, p, r, e in zip(begin, piece.end, rest, end, strict=True)]
            values = source.read(Roi(low, [h - b for h, b in zip(high, low, strict=True)]))
            labels = values.astype(np.uint64, copy=False)
            labels = labels if rest == _SAME else downsampled(np.ascontiguousarray(labels), rest)
            picked = pick(labels) if pick else labels
            out = np.empty(shape, picked.dtype) if out is None else out
            out[slices(piece)] = picked
        assert out is not None
        return out


def labels_at(address: str, voxel_size_nm: Nanometres | None = None) -> StoredLabels:
    """Return the segmentation of a workspace, or a label volume. Raises InputError if it is none.

    `voxel_size_nm`: used if the file states none.
    """
    workspace, volume, _ = opened_labels(address)
    require_labels(volume)
    path = str(workspace.segmentation) if workspace else address
    size = volume.voxel_size_nm or voxel_size_nm or require_voxel_size(volume)
    stored = _stored_levels(path, volume, size)
    factors = [step for step, _ in stored]
    if len(factors) == 1:
        for step in level_factors(volume.shape, size):
            factors.append(triple([a * b for a, b in zip(factors[-1], step, strict=True)]))
    return StoredLabels(address, volume, size, tuple(factors), stored, workspace)


def segments_of(labels: StoredLabels) -> Table:
    """Return one row per segment, by ascending `segment`: voxels, begin_z ... and end_z ... in voxels. 0 is left out.

    A finished workspace has exact tables. In other labels the segments are searched at a stored level of the pyramid:
    sizes are then approximate, and boxes are larger by one voxel of this level.
    """
    if labels.workspace is not None:
        plan = read_plan(labels.workspace)
        if labels.workspace.all_nodes.exists() and is_finished(labels.workspace, plan):
            nodes = read_nodes(labels.workspace)
            return segments_table(nodes, map_lookup(labels.workspace.lookup))
    small = [level for level in labels.stored if math.prod(level[1].shape) <= _MOST_SEARCHED_VOXELS]
    step, volume = small[0] if small else labels.stored[-1]
    table = GrowingTable(_BOXES)
    for piece in _pieces(volume.shape, _SAME):
        table.add(_boxes_in(volume.read(piece), piece.begin))
    found, grown = table.total(), [0 if s == 1 else 1 for s in step]
    out: Table = {"segment": found["segment"], "voxels": found["voxels"] * np.uint64(math.prod(step))}
    for axis, (name, size) in enumerate(zip("zyx", labels.volume.shape, strict=True)):
        out[f"begin_{name}"] = np.maximum(found[f"min_{name}"] - grown[axis], 0) * step[axis]
        out[f"end_{name}"] = np.minimum((found[f"max_{name}"] + 1 + grown[axis]) * step[axis], size)
    return out


def box_of(table: Table, row: int) -> Roi:
    """Return the bounding box of a row of `segments_of`."""
    begin, end = ([int(table[f"{bound}_{axis}"][row]) for axis in "zyx"] for bound in ("begin", "end"))
    return Roi(begin, [e - b for b, e in zip(begin, end, strict=True)])


def aligned(region: Roi, factors: Triple, shape: Triple) -> Roi:
    """Return the smallest region that contains `region` and consists of whole windows of `factors`, cut to `shape`."""
    begin = [b // f * f for b, f in zip(region.begin, factors, strict=True)]
    end = [min(-(-e // f) * f, n) for e, f, n in zip(region.end, factors, shape, strict=True)]
    return Roi(begin, [e - b for b, e in zip(begin, end, strict=True)])


def _stored_levels(path: str, volume: Volume, size: Nanometres) -> tuple[tuple[Triple, Volume], ...]:
    """Return downsampling and volume of each stored level. One for an array, and if a level is no whole multiple."""
    if getattr(volume.array, "store_path", None) is None:  # HDF5
        return ((_SAME, volume),)
    found = [(_SAME, volume)]
    node = open_node(path)
    for level in range(1, 0 if hasattr(node, "shape") else len(ome_levels(node.attrs))):
        coarse = open_any(path, level=level)
        exact = [a / b for a, b in zip(require_voxel_size(coarse), size, strict=True)]
        step = triple([round(ratio) for ratio in exact])
        wanted = triple([-(-n // s) for n, s in zip(volume.shape, step, strict=True)])
        if max(abs(e - s) for e, s in zip(exact, step, strict=True)) > 1e-3 or coarse.shape != wanted:
            break
        found.append((step, coarse))
    return tuple(found)


def _fits(step: Triple, factors: Triple, region: Roi) -> bool:
    return all(f % s == 0 and b % s == 0 for s, f, b in zip(step, factors, region.begin, strict=True))


def _pieces(shape: Triple, rest: Triple) -> Iterator[Roi]:
    """Yield regions that cover an array of `shape`, of which each voxel needs `rest` voxels to be read."""
    edges = triple([max(1, _PIECE_VOXELS // r) for r in rest])
    for block in Lattice(shape, edges, whole(shape)).blocks((0, 0, 0)):
        yield block.write_roi


def _boxes_in(labels: NDArray[Any], begin: Triple) -> Table:
    """Return the sizes and boxes of the labels of a piece that begins at voxel `begin`."""
    dense, names = fastremap.renumber(labels, preserve_zero=True)
    original = {new: old for old, new in names.items() if new != 0}
    counts = np.bincount(dense.ravel())
    rows = [(new, box) for new, box in enumerate(find_objects(dense), 1) if box is not None and new in original]
    table: Table = {
        "segment": np.array([original[new] for new, _ in rows], np.uint64),
        "voxels": np.array([counts[new] for new, _ in rows], np.uint64),
    }
    for axis, name in enumerate("zyx"):
        table[f"min_{name}"] = np.array([box[axis].start + begin[axis] for _, box in rows], np.int64)
        table[f"max_{name}"] = np.array([box[axis].stop + begin[axis] - 1 for _, box in rows], np.int64)
    return table
