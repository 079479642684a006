"""The edits of the workspace in a viewer: points of the page -> edits.jsonl -> constraints of a cut.

The file is read again when it changes, because neuroseg edits also writes it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.constraints import Edit
from neuroseg.agglomeration.partition import Constraints
from neuroseg.geometry import triple
from neuroseg.runs.edits import Edits, add_edits, constraints_at, read_edits, undo_edit
from neuroseg.runs.plan import Plan
from neuroseg.storage.workspace import Workspace
from neuroseg.viewer.layers import Layer
from neuroseg.viewer.places import middle_of

LAYER = "edits"


class HandEdits:
    """The edits of a workspace. Positions of the page are (x, y, z), in voxels of the layer `first`."""

    def __init__(self, workspace: Workspace, plan: Plan, first: Layer) -> None:
        self._workspace, self._plan, self._first = workspace, plan, first
        self._lock = threading.Lock()
        self._read: tuple[object, Edits] = (None, Edits())
        self._known: tuple[int, Constraints] | None = None

    def now(self) -> Edits:
        """Return the stored edits."""
        with self._lock:
            state = self._file_state()
            if state != self._read[0]:
                self._read = (state, read_edits(self._workspace))
            return self._read[1]

    def _file_state(self) -> object:
        try:
            found = self._workspace.edits.stat()
        except FileNotFoundError:
            return "none"
        return found.st_mtime_ns, found.st_size

    def constraints(self, fragments: NDArray[np.uint64]) -> Constraints:
        """Return the constraints for all fragments, ascending. Raises InputError if the edits do not fit them."""
        edits = self.now()
        if self._known is None or self._known[0] != edits.lines:
            found = constraints_at(self._workspace, self._plan, edits.active, fragments)
            self._known = (edits.lines, found)
        return self._known[1]

    def add(self, kind: str, points: Sequence[Sequence[float]]) -> None:
        """Store an edit of two positions of the page. Raises InputError if it is impossible."""
        one, other = (self._voxel(point) for point in points)
        add_edits(self._workspace, self._plan, [Edit(0, kind, (triple(one), triple(other)))])

    def undo(self, number: int) -> None:
        """Undo an edit. Raises InputError if there is no such edit."""
        undo_edit(self._workspace, number)

    def described(self) -> list[dict[str, Any]]:
        """Return the edits for the page: number, kind, author, time, and both positions."""
        return [
            {**asdict(edit), "positions": [middle_of(point, self._first) for point in edit.points_voxels]}
            for edit in self.now().active
        ]

    def is_written(self, written: Sequence[Edit]) -> bool:
        """Return whether the segmentation that was written with some edits has those of now."""
        return tuple(written) == self.now().active

    def _voxel(self, position: Sequence[float]) -> list[int]:
        """Return the voxel (z, y, x) at a position."""
        place = zip(position[::-1], self._first.offset_nm, self._first.voxel_size_nm, strict=True)
        return [math.floor(at - offset / size) for at, offset, size in place]
