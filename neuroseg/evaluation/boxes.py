"""Two volumes on disk -> their contingency table, read box by box.

Memory grows with the number of label pairs, not with the number of voxels.
"""

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
from neuroseg.evaluation.part_places import SoughtParts, better, box_places, no_places
from neuroseg.evaluation.pieces import PLACES, REACH, block_places
from neuroseg.geometry import Nanometres, Triple, grown, slices, triple
from neuroseg.tables import Table
from neuroseg.volumes.volume import Volume

BOX_VOXELS = 4 * 1024 * 1024

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Overlap:
    """The region compared (`roi`) and the region of the whole truth, both in voxels of the segmentation.

    `assumptions`: one sentence for each placement or voxel size that the files do not state.
    """

    roi: Roi
    truth_roi: Roi
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Border:
    """Ignore voxels of the truth within `width_nm` of a boundary between two of its labels."""

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
    """Return the contingency table of each volume in `labels` with the truth, within their overlap.

    All volumes in `labels` must have one shape. Only the truth decides whether a voxel counts, and truth outside the
    overlap is considered. The result therefore does not depend on the region or the boxes. `progress` is called with
    (voxels done, total voxels).
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
    """Return the places of the pieces of labels and truth within their overlap (evaluation/pieces.py)."""
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


def compared_part_places(
    labels: Volume,
    truth: Volume,
    overlap: Overlap,
    sought: Sequence[SoughtParts],
    ignore: Sequence[int] = (0,),
    *,
    box_voxels: int = BOX_VOXELS,
    progress: Progress = lambda done, total: None,
) -> list[NDArray[np.int64]]:
    """Return the places of the wrong parts (evaluation/part_places.py) of each element of `sought`, in the overlap."""
    places = [no_places(parts) for parts in sought]
    for block in _boxes(labels, overlap.roi, box_voxels, progress, REACH):
        arrays = labels.read(block.read_roi), _read_truth(truth, overlap, block.read_roi)
        rois = {"read_roi": block.read_roi, "write_roi": block.write_roi}
        for number, parts in enumerate(sought):
            found = box_places(*arrays, parts, ignore, **rois, volume_shape=labels.shape)
            places[number] = better(places[number], found)
    return places


def box_shape(chunk: Sequence[int], volume_shape: Sequence[int], most_voxels: int) -> Triple:
    """Return the shape of a box of whole chunks with at most `most_voxels` voxels.

    Starts with one chunk, cut to the volume, and doubles its shortest edges. A chunk with too many voxels is halved
    along its longest edges.
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
    """Yield the boxes that cover a region, aligned to the volume's chunks. Report progress after each box."""
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
    """Return the truth of a box and the mask of its voxels outside the border. The mask is None without a border."""
    if border is None:
        return _read_truth(truth, overlap, box), None
    seen = grown(box, border_reach(border.voxel_size_nm, border.width_nm), overlap.truth_roi)
    labels, inner = _read_truth(truth, overlap, seen), slices(box, seen.begin)
    return labels[inner], ~near_boundary(labels, border.voxel_size_nm, border.width_nm)[inner]


def _read_truth(truth: Volume, overlap: Overlap, roi: Roi) -> NDArray[np.uint64]:
    """Return the truth of a region. The region is in voxels of the segmentation."""
    return truth.read(roi - overlap.truth_roi.begin).astype(np.uint64, copy=False)
