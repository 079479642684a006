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
from funlib.geometry import Coordinate, Roi

from neuroseg.agglomeration.constraints import Edit, Fitting
from neuroseg.errors import InputError
from neuroseg.geometry import Triple, triple, whole
from neuroseg.runs.edits import Edits, change_edits, fitting, is_written, read_edits
from neuroseg.runs.plan import Plan
from neuroseg.storage.workspace import Workspace
from neuroseg.viewer.cuts import Cut, Tree
from neuroseg.viewer.layers import Layer
from neuroseg.viewer.places import middle_of

LAYER = "edits"
# A position on a mesh lies this near to the voxels of its segment, also on a mesh with coarse voxels.
_MESH_VOXELS = 16
# Positions on a face between voxels are not exact.
_TOLERANCE_VOXELS = 1e-3


class HandEdits:
    """The edits of a workspace. Positions of the page are (x, y, z), in voxels of the layer of fragments."""

    def __init__(self, workspace: Workspace, plan: Plan, fragments: Layer, tree: Tree) -> None:
        self._workspace, self._plan, self._layer, self._tree = workspace, plan, fragments, tree
        self._lock = threading.Lock()
        self._read: tuple[object, Edits] = (None, Edits())
        self._fitting: tuple[str, Fitting] | None = None
        self._labels = _Remembered(fragments)

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
        return found.st_mtime_ns, found.st_size, found.st_ino

    def fitting(self) -> Fitting:
        """Return the constraints of the edits that fit the fragments, and why others do not."""
        edits = self.now()
        if self._fitting is None or self._fitting[0] != edits.key:
            found = fitting(self._workspace, self._plan, edits.active, self._tree.fragments, self._labels)
            self._fitting = (edits.key, found)
        return self._fitting[1]

    def add(self, kind: str, positions: Sequence[Sequence[float]], segments: Sequence[int | None], cut: Cut) -> None:
        """Store an edit of two positions of the page. Raises InputError if it is impossible.

        `segments`: the segment of `cut` that was clicked at each position, if that was its mesh, else None.
        """
        one, other = (self._voxel(*each, cut) for each in zip(positions, segments, strict=True))
        edit = Edit(0, kind, (one, other))
        change_edits(self._workspace, self._plan, [edit], (), self._labels, self._tree.fragments)

    def undo(self, number: int) -> None:
        """Undo an edit. Raises InputError if there is no such edit."""
        change_edits(self._workspace, self._plan, (), [number])

    def described(self) -> dict[str, Any]:
        """Return the edits for the page, with positions and problems, and whether the segmentation has them."""
        edits = self.now()
        problems = {edit.number: problem for edit, problem in self.fitting().problems}
        rows = [
            {
                **asdict(edit),
                "positions": [middle_of(point, self._layer) for point in edit.points_voxels],
                "problem": problems.get(edit.number, ""),
            }
            for edit in edits.active
        ]
        return {"edits": rows, "written": is_written(self._workspace, self._plan, edits), "key": edits.key}

    def _voxel(self, position: Sequence[float], segment: int | None, cut: Cut) -> Triple:
        """Return the voxel (z, y, x) at a position, or the nearest one of a segment."""
        place = zip(position[::-1], self._layer.offset_nm, self._layer.voxel_size_nm, strict=True)
        at = np.array([value - offset / size for value, offset, size in place])
        voxel = triple([math.floor(value + _TOLERANCE_VOXELS) for value in at])
        if segment is None:
            return voxel
        reach = [_MESH_VOXELS] * 3
        near = Roi(voxel, (1, 1, 1)).grow(Coordinate(reach), Coordinate(reach)).intersect(whole(self._layer.shape))
        rows = self._tree.rows_of(self._layer.read(near)) if not near.empty else np.full((0, 0, 0), -1)
        found = np.argwhere((rows >= 0) & (cut.names[rows] == np.uint64(segment))) + np.array(near.begin)
        if not len(found):
            raise InputError(f"there is no voxel of segment {segment} near this point of its mesh")
        return triple(found[((found + 0.5 - at) ** 2).sum(1).argmin()].tolist())


class _Remembered:
    """The fragment of a voxel, as if it were an array. Each voxel is read once."""

    def __init__(self, layer: Layer) -> None:
        self._layer, self._known = layer, dict[Triple, int]()

    def __getitem__(self, voxel: Triple) -> int:
        if voxel not in self._known:
            self._known[voxel] = int(self._layer.read(Roi(voxel, (1, 1, 1))).item())
        return self._known[voxel]
