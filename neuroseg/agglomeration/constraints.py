"""Edits by hand -> the pairs of fragments that must be in one segment, or in different ones.

    edits (two points each)  ->  fragments at the points  ->  Constraints for the merge tree (partition.py)

An edit names points, not fragments, so it also holds for fragments that were computed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from neuroseg.agglomeration.partition import Constraints, root
from neuroseg.errors import InputError
from neuroseg.geometry import Triple

JOIN, SPLIT = "join", "split"
KINDS = (JOIN, SPLIT)


@dataclass(frozen=True)
class Edit:
    """A decision of a person: two points are in one segment (`join`) or in different ones (`split`).

    `points_voxels`: two voxels (z, y, x) of the run's volume. `by` and `at`: who made it, and when (ISO 8601).
    """

    number: int
    kind: str
    points_voxels: tuple[Triple, Triple]
    by: str = ""
    at: str = ""

    def __str__(self) -> str:
        one, other = (",".join(map(str, point)) for point in self.points_voxels)
        return f"edit {self.number} ({self.kind} {one} and {other})"


def constraints_of(edits: Sequence[Edit], labels: Any, roi: Roi, fragments: NDArray[np.uint64]) -> Constraints:
    """Return the constraints of the edits whose points are both in `roi`. Their order does not matter.

    `labels`: the fragment of each voxel, an array (z, y, x) or what is indexed like one; 0 for none. `fragments`: all
    fragments, ascending, unique. Raises InputError if there is no fragment at a point, if the points of a split are in
    one fragment, and if splits contradict joins.
    """
    inside = [edit for edit in edits if all(roi.contains(Coordinate(point)) for point in edit.points_voxels)]
    rows = np.array([[_row(edit, point, labels, fragments) for point in edit.points_voxels] for edit in inside])
    rows = rows.reshape(-1, 2).astype(np.int64)
    is_join = np.array([edit.kind == JOIN for edit in inside], bool)
    constraints = Constraints(rows[is_join], rows[~is_join])
    _require_possible(inside, rows, constraints, len(fragments))
    return constraints


def _row(edit: Edit, point: Triple, labels: Any, fragments: NDArray[np.uint64]) -> int:
    """Return the index in `fragments` of the fragment at a point."""
    fragment = np.uint64(labels[point])
    row = int(np.searchsorted(fragments, fragment))
    if row == len(fragments) or fragments[row] != fragment:
        place = ",".join(map(str, point))
        raise InputError(
            f"{edit}: no segment at voxel {place}", hint=f"choose a point inside a segment{_or_undo(edit)}"
        )
    return row


def _require_possible(edits: Sequence[Edit], rows: NDArray[np.int64], constraints: Constraints, fragments: int) -> None:
    """Raise InputError for a split whose two fragments are the same one, or are joined by other edits."""
    parents = np.arange(fragments) if len(constraints.split) else np.arange(0)
    for one, other in constraints.joined if len(parents) else ():
        parents[root(parents, one)] = root(parents, other)
    for edit, (one, other) in zip(edits, rows.tolist(), strict=True):
        if edit.kind == JOIN or root(parents, one) != root(parents, other):
            continue
        if one == other:
            raise InputError(
                f"{edit}: both points are in one fragment, which is the smallest unit of a segmentation",
                hint=f"choose points in different fragments{_or_undo(edit)}",
            )
        joins = [
            str(each.number)
            for each, pair in zip(edits, rows.tolist(), strict=True)
            if each.kind == JOIN and root(parents, pair[0]) == root(parents, one)
        ]
        raise InputError(
            f"{edit} contradicts {'edit' if len(joins) == 1 else 'edits'} {', '.join(joins)}, which "
            f"{'joins' if len(joins) == 1 else 'join'} the two points",
            hint="undo one of them: neuroseg edits WORKSPACE --undo N",
        )


def _or_undo(edit: Edit) -> str:
    return f", or undo a stored edit: neuroseg edits WORKSPACE --undo {edit.number}"
