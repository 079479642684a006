"""Segmentation and truth -> the errors with the most bits, each with the place to inspect."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from neuroseg.evaluation.boxes import BOX_VOXELS, Border, Overlap, Progress, compare, compared_part_places
from neuroseg.evaluation.metrics import scores_of
from neuroseg.evaluation.part_places import MET_BY, OTHER, PART, VOXEL, SoughtParts, sought_parts
from neuroseg.evaluation.suspect import MERGE, SPLIT, Suspect, distinct, plain, position_nm
from neuroseg.evaluation.wrong_parts import COLUMNS, description_of, ranked_parts, worst_parts
from neuroseg.geometry import Triple
from neuroseg.tables import Table
from neuroseg.volumes.volume import Volume


def errors_between(
    labels: Volume,
    truth: Volume,
    overlap: Overlap,
    ignore: Sequence[int] = (0,),
    *,
    border: Border | None = None,
    top: int | None = None,
    box_voxels: int = BOX_VOXELS,
    shown: Callable[[str], Progress] = lambda step: lambda done, total: None,
) -> list[Suspect]:
    """Return the `top` errors of `labels` (None: all), the worst first.

    There is one error for each wrong part of a true object (`split`) or of a segment (`merge`), see wrong_parts.py. The
    bits of all splits sum to VOI split, those of all merges to VOI merge. The place is a voxel of the wrong part. The
    list does not depend on `box_voxels`. Raises InputError if the truth contains only ignored labels in the overlap.
    """
    (table,) = compare(
        [labels], truth, overlap, ignore, border=border, box_voxels=box_voxels, progress=shown("evaluate")
    )
    scores_of(table)  # raises InputError for an empty table
    parts = {kind: ranked_parts(table, kind) for kind in (SPLIT, MERGE)}
    worst = worst_parts(parts, top)
    rows_of = {kind: [row for each, row in worst if each == kind] for kind in parts}
    kinds = [kind for kind, rows in rows_of.items() if rows]
    if not kinds:
        return []
    sought = [sought_parts(kind, parts[kind], rows_of[kind]) for kind in kinds]
    places = compared_part_places(
        labels, truth, overlap, sought, ignore, box_voxels=box_voxels, progress=shown("places")
    )
    found = {}
    for wanted, at in zip(sought, places, strict=True):
        for row, place in zip(rows_of[wanted.kind], at, strict=True):
            found[wanted.kind, row] = _suspect(wanted, parts[wanted.kind], row, place, labels)
    return [found[each] for each in worst]


def _suspect(sought: SoughtParts, rows: Table, row: int, place: NDArray[np.int64], labels: Volume) -> Suspect:
    """Return a wrong part, a row of `ranked_parts`, as a suspect."""
    of, part, voxels = (int(rows[name][row]) for name in ("object", "part", "voxels"))
    largest = int(rows["part"][row - int(rows["rank"][row])])
    other = int(sought.part[place[PART]]) if place[PART] >= 0 else largest
    ids = {COLUMNS[sought.kind][0]: (of,), COLUMNS[sought.kind][1]: distinct(part, other)}
    voxel = _voxel(place[VOXEL], labels.shape)
    beyond = _voxel(place[OTHER], labels.shape) if place[MET_BY] < 2 else None
    assert voxel is not None, "every part has a voxel in the region"
    return Suspect(
        kind=sought.kind,
        bits=float(rows["bits"][row]),
        place_voxels=voxel,
        place_nm=position_nm(labels, voxel),
        segments=ids["segment"],
        truth=ids["truth"],
        description=description_of(sought.kind, of, part, other, voxels),
        other_voxels=beyond,
        other_nm=position_nm(labels, beyond),
    )


def _voxel(index: np.int64, shape: Triple) -> Triple:
    return plain(np.unravel_index(int(index), shape))
