"""Two volumes on disk -> their contingency, read box by box: memory grows with the pieces, never with the voxels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.blocks import Block, Lattice
from neuroseg.evaluation.borders import border_reach, near_boundary
from neuroseg.evaluation.contingency import CONTINGENCY, GrowingTable, contingency
from neuroseg.evaluation.pieces import PLACES, REACH, block_places
from neuroseg.geometry import Nanometres, Triple, grown, slices, triple
from neuroseg.tables import Table
from neuroseg.volumes.volume import Volume

BOX_VOXELS = 4 * 1024 * 1024

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Overlap:
    """The region compared and the region of the whole truth, both in voxels of the segmentation.

    `assumptions` say in sentences what the files do not state and the comparison takes for granted.
    """

    roi: Roi
    truth_roi: Roi
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Border:
    """Voxels of the truth within `width_nm` of a boundary between two of its labels do not count."""

    width_nm: float
    voxel_size_nm: Nanometres


def compare(
    labels: Sequence[Volume],
    truth: Volume,
    overlap: Overlap,
    ignore: Sequence[int] = (0,),
    *,
    border: Border | None = None,
    box_voxels: int = BOX_VOXELS,
    progress: Progress = lambda done, total: None,
) -> list[Table]:
    """Return the contingency of each of `labels`, volumes of one shape, with the truth over their overlap.

    Whether a voxel counts depends on the truth alone, what lies beyond the overlap included: it is the same for any
    region and any boxes. `progress` is told (voxels done, voxels in all).
    """
    tables = [GrowingTable(CONTINGENCY) for _ in labels]
    for block in _boxes(labels[0], overlap.roi, box_voxels, progress):
        true, counted = _counted_truth(truth, overlap, block.write_roi, border)
        for volume, table in zip(labels, tables, strict=True):
            table.add(contingency(volume.read(block.write_roi), true, ignore, counted=counted))
    return [table.total() for table in tables]


def compared_places(
    labels: Volume,
    truth: Volume,
    overlap: Overlap,
    ignore: Sequence[int] = (0,),
    *,
    box_voxels: int = BOX_VOXELS,
    progress: Progress = lambda done, total: None,
) -> Table:
    """Return where the pieces of labels and truth lie and meet within their overlap (evaluation/pieces.py)."""
    table = GrowingTable(PLACES)
    for block in _boxes(labels, overlap.roi, box_voxels, progress, REACH):
        table.add(
            block_places(
                labels.read(block.read_roi).astype(np.uint64, copy=False),
                _read_truth(truth, overlap, block.read_roi),
                ignore,
                read_roi=block.read_roi,
                write_roi=block.write_roi,
                volume_shape=labels.shape,
            )
        )
    return table.total()


def box_shape(chunk: Sequence[int], volume_shape: Sequence[int], most_voxels: int) -> Triple:
    """Return a box of whole chunks, doubled along its shortest edges up to `most_voxels`, within the volume.

    A chunk of more voxels than that is halved along its longest edges instead.
    """
    shape = [min(width, size) for width, size in zip(chunk, volume_shape, strict=True)]
    while math.prod(shape) > most_voxels:
        longest = shape.index(max(shape))
        shape[longest] = -(-shape[longest] // 2)
    while 2 * math.prod(shape) <= most_voxels:
        growing = [axis for axis in (2, 1, 0) if shape[axis] < volume_shape[axis]]
        if not growing:
            break
        shape[min(growing, key=shape.__getitem__)] *= 2
    return triple(shape)


def _boxes(volume: Volume, roi: Roi, box_voxels: int, progress: Progress, halo: Triple = (0, 0, 0)) -> Iterator[Block]:
    """Yield the boxes that cover a region, aligned to the volume's chunks, and tell the progress after each."""
    chunk = volume.chunks or (1, 1, 1)
    lattice = Lattice(volume.shape, box_shape(chunk, volume.shape, box_voxels), roi)
    done = 0
    for block in lattice.blocks(halo):
        yield block
        done += block.voxels
        progress(done, int(roi.size))


def _counted_truth(
    truth: Volume, overlap: Overlap, box: Roi, border: Border | None
) -> tuple[NDArray[np.uint64], NDArray[np.bool_] | None]:
    """Return the truth of a box, and which of its voxels are far enough from boundaries (None: all)."""
    if border is None:
        return _read_truth(truth, overlap, box), None
    seen = grown(box, border_reach(border.voxel_size_nm, border.width_nm), overlap.truth_roi)
    labels, inner = _read_truth(truth, overlap, seen), slices(box, seen.begin)
    return labels[inner], ~near_boundary(labels, border.voxel_size_nm, border.width_nm)[inner]


def _read_truth(truth: Volume, overlap: Overlap, roi: Roi) -> NDArray[np.uint64]:
    """Return the truth in a region given in voxels of the segmentation."""
    return truth.read(roi - overlap.truth_roi.begin).astype(np.uint64, copy=False)
