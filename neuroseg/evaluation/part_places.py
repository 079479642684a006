"""Labels, truth and some wrong parts -> the place of each wrong part, read box by box.

The place of a wrong part is its first voxel, by z, then y, then x, that meets a larger part of the same object. Without
one it is the first voxel that meets any other part, and otherwise the first voxel of the part. Two parts of a true
object meet at a voxel face. Between two parts of a segment, ignored voxels of that segment (a membrane) may lie, as in
evaluation/pieces.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.evaluation.contingency import is_ignored, run_starts
from neuroseg.evaluation.pieces import REACH
from neuroseg.evaluation.suspect import MERGE
from neuroseg.evaluation.wrong_parts import COLUMNS, rows_of_objects
from neuroseg.geometry import Triple
from neuroseg.kernels import compiled
from neuroseg.tables import Table

# Columns of places. MET_BY: 0 if the part meets a larger part, 1 any other part, 2 none. OTHER and PART are the voxel
# and the id of the other part, -1 if there is none. Voxels are linear indices in the whole volume.
MET_BY, VOXEL, OTHER, PART = range(4)
_UNKNOWN = 3
_OUTSIDE = -1  # code of a voxel that is in none of the parts


@dataclass(frozen=True)
class SoughtParts:
    """Parts of the objects of one kind, sorted by object and part. `error`: index of the wrong part to find, or -1."""

    kind: str
    object: NDArray[np.uint64]
    part: NDArray[np.uint64]
    rank: NDArray[np.int64]
    error: NDArray[np.int64]


def sought_parts(kind: str, rows: Table, wrong: Sequence[int]) -> SoughtParts:
    """Return the parts of all objects that have one of the `wrong` rows of `ranked_parts`, which are to be found."""
    error_of = np.full(len(rows["object"]), -1, np.int64)
    error_of[list(wrong)] = np.arange(len(wrong))
    kept = rows_of_objects(rows, rows["object"][list(wrong)])
    columns = (rows["object"][kept], rows["part"][kept], rows["rank"][kept].astype(np.int64), error_of[kept])
    return SoughtParts(kind, *columns)


def no_places(sought: SoughtParts) -> NDArray[np.int64]:
    """Return places `(errors, 4)` int64 before any box is read."""
    count = int(sought.error.max(initial=-1)) + 1
    return np.tile(np.array([_UNKNOWN, -1, -1, -1], np.int64), (count, 1))


def box_places(
    segments: NDArray[np.integer],
    truth: NDArray[np.integer],
    sought: SoughtParts,
    ignore: Sequence[int],
    *,
    read_roi: Roi,
    write_roi: Roi,
    volume_shape: Triple,
) -> NDArray[np.int64]:
    """Return the place `(errors, 4)` int64 of each wrong part within `write_roi`; the columns are listed above.

    Both arrays cover `read_roi`: `write_roi` grown by pieces.REACH, cut to the region compared. Then `better` of all
    boxes equals the places in the whole region. Voxels with a truth in `ignore` belong to no part.
    """
    places = no_places(sought)
    codes, owners = _codes(segments, truth, sought, ignore)
    if not (sought.error[codes[codes >= 0]] >= 0).any():
        return places
    strides = (volume_shape[1] * volume_shape[2], volume_shape[2], 1)
    begin, end = write_roi.begin - read_roi.begin, write_roi.end - read_roi.begin
    inner = np.array([begin, end], np.int64)
    linear = np.array([read_roi.begin, strides], np.int64)
    for axis in range(3):
        turned = [other for other in range(3) if other != axis] + [axis]
        lines = np.moveaxis(codes, axis, -1)
        _find(lines, owners, sought.rank, sought.error, inner[:, turned], linear[:, turned], max(REACH), places)
    return places


def better(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return row by row the better place: met by a larger part, then the first voxel, then the first other voxel."""
    keys = [(other[:, column], one[:, column]) for column in (MET_BY, VOXEL, OTHER)]
    is_better, is_equal = np.zeros(len(one), bool), np.ones(len(one), bool)
    for candidate, known in keys:
        is_better |= is_equal & (candidate < known)
        is_equal &= candidate == known
    return np.where(is_better[:, None], other, one)


def _codes(
    segments: NDArray[np.integer], truth: NDArray[np.integer], sought: SoughtParts, ignore: Sequence[int]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the code of each voxel, and the index of the object of each part.

    Codes: index of a part, _OUTSIDE, or -2 - index of the segment for an ignored voxel of a sought segment.
    """
    flat = {"segment": segments.ravel(), "truth": truth.ravel()}
    starts = run_starts(flat["segment"], flat["truth"])
    of, among = (flat[name][starts].astype(np.uint64) for name in COLUMNS[sought.kind])
    objects, owners = np.unique(sought.object, return_inverse=True)
    labels, columns = np.unique(sought.part, return_inverse=True)
    at_object, is_object = _found(objects, of)
    at_label, is_label = _found(labels, among)
    # Parts are sorted by object and part, so their keys ascend.
    at_part, is_part = _found(owners * len(labels) + columns, at_object * len(labels) + at_label)
    codes = np.where(is_object & is_label & is_part, at_part, _OUTSIDE)
    ignored = is_ignored(flat["truth"][starts], ignore)
    codes[ignored] = _OUTSIDE
    if sought.kind == MERGE:
        bridges = ignored & is_object
        codes[bridges] = -2 - at_object[bridges]
    lengths = np.diff(starts, append=truth.size)
    return np.repeat(codes.astype(np.int32), lengths).reshape(truth.shape), owners.astype(np.int64)


def _found(known: NDArray[np.generic], values: NDArray[np.generic]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the index of each value in `known` (ascending, not empty), and whether it is there."""
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return at, known[at] == values


@compiled
def _find(codes, owners, ranks, errors, inner, linear, widest, places):  # type: ignore[no-untyped-def]
    """Improve `places` by the meetings along the last axis. `inner`: begin and end of the written voxels.

    `linear`: the first row is the position of the first voxel, the second the steps of the linear index.
    """
    (z0, y0, x0), (step_z, step_y, step_x) = linear
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            last = -1
            base = (i + z0) * step_z + (j + y0) * step_y + x0 * step_x
            written = inner[0, 0] <= i < inner[1, 0] and inner[0, 1] <= j < inner[1, 1]
            for k in range(codes.shape[2]):
                code = codes[i, j, k]
                if code < 0:
                    if last >= 0 and owners[codes[i, j, last]] != -2 - code:
                        last = -1
                    continue
                if written and inner[0, 2] <= k < inner[1, 2]:
                    _improve(places, errors[code], 2, base + k * step_x, -1, -1)
                before = codes[i, j, last] if last >= 0 else code
                if before != code and owners[before] == owners[code] and k - last <= widest:
                    for one, two, part, other in ((k, last, code, before), (last, k, before, code)):
                        if written and inner[0, 2] <= one < inner[1, 2]:
                            met_by = 0 if ranks[other] < ranks[part] else 1
                            voxel, beyond = base + one * step_x, base + two * step_x
                            _improve(places, errors[part], met_by, voxel, beyond, other)
                last = k


@compiled
def _improve(places, error, met_by, voxel, other, part):  # type: ignore[no-untyped-def]
    """Replace the place of a wrong part if this one is better."""
    if error < 0 or met_by > places[error, 0]:
        return
    if met_by == places[error, 0] and (
        voxel > places[error, 1] or (voxel == places[error, 1] and other >= places[error, 2])
    ):
        return
    places[error, 0], places[error, 1], places[error, 2], places[error, 3] = met_by, voxel, other, part
