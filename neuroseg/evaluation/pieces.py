"""Two label volumes -> the places of their pieces, and the places where pieces meet.

A piece is the set of voxels shared by one segment and one true object. Where two pieces of one true object meet, the
object is split. Where two pieces of one segment meet, the segment merges objects. These are the voxels to inspect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.evaluation.contingency import is_ignored, run_starts
from neuroseg.geometry import Triple, slices
from neuroseg.kernels import compiled
from neuroseg.tables import Table, combined

# Voxels are linear indices in the whole volume. Of several voxels, the first is stored.
PLACES: Mapping[str, type[np.generic]] = {
    "segment": np.uint64,
    "truth": np.uint64,
    "min_voxel": np.uint64,  # of the piece
    "min_split_voxel": np.uint64,  # of the piece, next to another piece of the same true object
    "min_merge_voxel": np.uint64,  # of the piece, next to another piece of the same segment
}
NOWHERE = np.uint64(2**64 - 1)

# A membrane of ignored voxels often separates true objects. A segment can merge them across at most this width.
_WIDEST_MEMBRANE_VOXELS = 12
REACH: Triple = (_WIDEST_MEMBRANE_VOXELS + 1,) * 3


def block_places(
    segments: NDArray[np.integer],
    truth: NDArray[np.integer],
    ignore: Sequence[int],
    *,
    read_roi: Roi,
    write_roi: Roi,
    volume_shape: Triple,
) -> Table:
    """Return one row per piece in `write_roi`, sorted by (segment, truth). NOWHERE if it meets no other piece.

    Both arrays cover `read_roi`: `write_roi` grown by REACH, cut to the volume. The combined rows of all blocks
    therefore equal the rows of the whole volume. Voxels with a truth in `ignore` belong to no piece.
    """
    ignored = is_ignored(truth, ignore)
    splits, merges = np.zeros(truth.shape, bool), np.zeros(truth.shape, bool)
    for axis in range(3):
        lines = (np.moveaxis(array, axis, -1) for array in (segments, truth, ignored, splits, merges))
        _mark_meetings(*lines, _WIDEST_MEMBRANE_VOXELS)
    box = slices(write_roi, read_roi.begin)
    voxels = _linear_indices(write_roi, volume_shape).ravel()
    segments, truth, ignored = segments[box].ravel(), truth[box].ravel(), ignored[box].ravel()
    starts = run_starts(segments, truth)
    rows = {"segment": segments[starts].astype(np.uint64), "truth": truth[starts].astype(np.uint64)}
    rows["min_voxel"] = voxels[starts]
    for name, met in (("min_split_voxel", splits), ("min_merge_voxel", merges)):
        rows[name] = np.minimum.reduceat(np.where(met[box].ravel(), voxels, NOWHERE), starts)
    return combined([{name: column[~ignored[starts]] for name, column in rows.items()}], PLACES)


def _linear_indices(roi: Roi, volume_shape: Triple) -> NDArray[np.uint64]:
    z, y, x = (np.arange(begin, end) for begin, end in zip(roi.begin, roi.end, strict=True))
    indices = (z[:, None, None] * volume_shape[1] + y[:, None]) * volume_shape[2] + x
    return indices.astype(np.uint64)


@compiled
def _mark_meetings(segments, truth, ignored, splits, merges, widest):  # type: ignore[no-untyped-def]
    """Mark consecutive counted voxels along the last axis that share exactly one of their two labels.

    The two voxels of a merge may be separated by ignored voxels of the same segment.
    """
    for i in range(truth.shape[0]):
        for j in range(truth.shape[1]):
            last = -1
            for k in range(truth.shape[2]):
                if last >= 0 and ignored[i, j, k] and segments[i, j, k] != segments[i, j, last]:
                    last = -1
                if ignored[i, j, k]:
                    continue
                if last >= 0 and k - last <= widest + 1:
                    same_segment = segments[i, j, k] == segments[i, j, last]
                    same_truth = truth[i, j, k] == truth[i, j, last]
                    if same_truth and not same_segment and k - last == 1:
                        splits[i, j, k] = splits[i, j, last] = True
                    if same_segment and not same_truth:
                        merges[i, j, k] = merges[i, j, last] = True
                last = k
