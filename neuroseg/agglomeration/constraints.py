"""Edits by hand -> the pairs of fragments that must be in one segment, or in different ones.

    edits (two points each)  ->  fragments at the points  ->  Constraints for the merge tree (partition.py)

An edit names points, not fragments, so it also holds for fragments that were computed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from neuroseg.agglomeration.partition import Constraints
from neuroseg.errors import InputError
from neuroseg.geometry import Triple

JOIN, SPLIT = "join", "split"
KINDS = (JOIN, SPLIT)
_MOST_NAMED = 10  # edits in a message


@dataclass(frozen=True)
class Edit:
    """A decision of a person: two points are in one segment (`join`) or in different ones (`split`).

    `points_voxels`: two voxels (z, y, x) of the run's volume. `by` and `at`: who made it, and when (ISO 8601). `number`
    is 0 for an edit that is not stored yet.
    """

    number: int
    kind: str
    points_voxels: tuple[Triple, Triple]
    by: str = ""
    at: str = ""

    def __str__(self) -> str:
        one, other = (",".join(map(str, point)) for point in self.points_voxels)
        points = f"{self.kind} {one} and {other}"
        return f"edit {self.number} ({points})" if self.number else f"the edit ({points})"


@dataclass(frozen=True)
class Fitting:
    """The constraints of the edits that fit the fragments, and why each of the others does not."""

    constraints: Constraints
    problems: tuple[tuple[Edit, str], ...]


def constraints_of(edits: Sequence[Edit], labels: Any, roi: Roi, fragments: NDArray[np.uint64]) -> Fitting:
    """Return the constraints of the edits whose points are both in `roi`. Their order does not matter.

    `labels`: the fragment of each voxel, an array (z, y, x) or what is indexed like one; 0 for none. `fragments`: all
    fragments, ascending, unique. An edit does not fit if there is no fragment at a point, if both points are in one
    fragment, or if it is a split that contradicts joins. Edits that do not fit are left out.
    """
    inside = [edit for edit in edits if all(roi.contains(Coordinate(point)) for point in edit.points_voxels)]
    rows, problems = {}, []
    for edit in inside:
        pair = tuple(_row(labels[point], fragments) for point in edit.points_voxels)
        if -1 in pair:
            place = ",".join(map(str, edit.points_voxels[pair.index(-1)]))
            problems.append((edit, f"there is no segment at voxel {place}"))
        elif pair[0] == pair[1]:
            problems.append((edit, "both points are in one fragment, the smallest unit of a segmentation"))
        else:
            rows[edit] = pair
    joins = _Joined([(edit, pair) for edit, pair in rows.items() if edit.kind == JOIN])
    for edit, (one, other) in list(rows.items()):
        if edit.kind == SPLIT and (path := joins.between(one, other)):
            problems.append((edit, f"it contradicts {path}"))
            del rows[edit]
    pairs = {kind: [pair for edit, pair in rows.items() if edit.kind == kind] for kind in KINDS}
    joined, split = (np.array(pairs[kind], np.int64).reshape(-1, 2) for kind in KINDS)
    return Fitting(Constraints(joined, split), tuple(problems))


def require_fitting(found: Fitting, workspace: Path) -> None:
    """Raise InputError if edits do not fit. It names them, and the command that undoes them."""
    if not found.problems:
        return
    named = [f"{edit}: {problem}" for edit, problem in found.problems[:_MOST_NAMED]]
    more = f"\n  and {len(found.problems) - _MOST_NAMED} more" if len(found.problems) > _MOST_NAMED else ""
    numbers = " ".join(f"--undo {edit.number}" for edit, _ in found.problems)
    raise InputError(
        f"{len(found.problems)} edits do not fit the fragments:\n  " + "\n  ".join(named) + more,
        hint=f"undo them: neuroseg edits {workspace} {numbers}",
    )


def _row(fragment: Any, fragments: NDArray[np.uint64]) -> int:
    """Return the index of a fragment, -1 for 0 and unknown ones."""
    row = int(np.searchsorted(fragments, np.uint64(fragment)))
    return row if row < len(fragments) and fragments[row] == np.uint64(fragment) else -1


class _Joined:
    """The fragments that joins connect."""

    def __init__(self, joins: Sequence[tuple[Edit, tuple[int, ...]]]) -> None:
        self._neighbours: dict[int, list[tuple[int, Edit]]] = {}
        for edit, (one, other) in joins:
            self._neighbours.setdefault(one, []).append((other, edit))
            self._neighbours.setdefault(other, []).append((one, edit))

    def between(self, one: int, other: int) -> str:
        """Return the joins on a shortest path between two fragments, in words. Empty if nothing connects them."""
        came: dict[int, tuple[int, Edit]] = {}
        reached = [one]
        for fragment in reached:  # grows while it is read
            for neighbour, edit in self._neighbours.get(fragment, ()):
                if neighbour != one and neighbour not in came:
                    came[neighbour] = (fragment, edit)
                    reached.append(neighbour)
        if other not in came:
            return ""
        path = []
        while other != one:
            other, edit = came[other]
            path.append(str(edit))
        more = f" and {len(path) - _MOST_NAMED} more" if len(path) > _MOST_NAMED else ""
        return ", ".join(path[::-1][:_MOST_NAMED]) + more
