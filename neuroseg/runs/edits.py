"""The edits of a workspace: `edits.jsonl`, one line per edit or undone edit. Lines are only ever appended.

    {"edit": 1, "kind": "split", "points_voxels": [[4, 80, 90], [5, 81, 97]], "by": "ada", "at": "2026-11-30T09:12:03Z"}
    {"undo": 1, "by": "ada", "at": "2026-11-30T09:15:40Z"}

Points are voxels (z, y, x) of the run's volume. The number of a new edit is the largest one in the file plus 1.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from funlib.geometry import Coordinate
from numpy.typing import NDArray

from neuroseg.agglomeration.constraints import KINDS, Edit, constraints_of
from neuroseg.agglomeration.partition import NO_CONSTRAINTS, Constraints
from neuroseg.errors import InputError
from neuroseg.geometry import parse_roi, triple
from neuroseg.runs.plan import Plan
from neuroseg.storage.arrays import open_array
from neuroseg.storage.lock import NO_LOCKS
from neuroseg.storage.parts import read_table
from neuroseg.storage.space import path_in_errors
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import NODES

_KEYS = ("kind", "points_voxels", "by", "at")
_LONGEST_LINE = 10_000  # bytes


@dataclass(frozen=True)
class Edits:
    """The edits that are not undone, by number. `lines`: the length of the history, which never shrinks."""

    active: tuple[Edit, ...] = ()
    lines: int = 0
    last_number: int = 0


def read_edits(workspace: Workspace) -> Edits:
    """Return the edits of a workspace. Raises InputError if a line is not an edit."""
    try:
        return _edits_in(workspace.edits, workspace.edits.read_bytes())
    except FileNotFoundError:
        return Edits()
    except OSError as error:
        raise InputError(f"cannot read {workspace.edits}: {error.strerror}") from error


def edits_in(path: Path) -> tuple[Edit, ...]:
    """Return the edits of any file in this format, where `edit`, `by` and `at` may be missing. Raises InputError."""
    try:
        found = _edits_in(path, path.read_bytes() + b"\n").active
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if not found:
        raise InputError(f"{path} has no edits", hint=f"each line must look like {_example()}")
    return found


def add_edits(workspace: Workspace, plan: Plan, new: Sequence[Edit]) -> list[Edit]:
    """Store edits, without those that are already there. Return the stored ones with their numbers, author and time.

    Raises InputError, and stores nothing, if one is impossible or contradicts another (agglomeration/constraints.py).
    """
    with _appending(workspace) as (known, append):
        have = {_content(edit) for edit in known.active}
        missing = list({_content(edit): edit for edit in new if _content(edit) not in have}.values())
        numbered = [
            replace(edit, number=known.last_number + place, by=edit.by or _user(), at=edit.at or _now())
            for place, edit in enumerate(missing, start=1)
        ]
        _require_inside(plan, numbered)
        _require_tree(workspace)
        fragments = read_table(workspace.all_nodes, {"fragment": NODES["fragment"]})["fragment"]
        constraints_at(workspace, plan, (*known.active, *numbered), fragments)
        append([{"edit": edit.number, **{key: getattr(edit, key) for key in _KEYS}} for edit in numbered])
        return numbered


def undo_edit(workspace: Workspace, number: int) -> Edit:
    """Store that an edit does not hold any more. Return it. Raises InputError if there is no such edit."""
    with _appending(workspace) as (known, append):
        for edit in known.active:
            if edit.number == number:
                append([{"undo": number, "by": _user(), "at": _now()}])
                return edit
        numbers = ", ".join(str(edit.number) for edit in known.active)
        raise InputError(
            f"there is no edit {number} in {workspace.path}",
            hint=f"the edits are {numbers}" if numbers else "there are no edits",
        )


def constraints_at(
    workspace: Workspace, plan: Plan, edits: Sequence[Edit], fragments: NDArray[np.uint64]
) -> Constraints:
    """Return the constraints of edits for the stored fragments. `fragments` and errors as in `constraints_of`."""
    if not edits:
        return NO_CONSTRAINTS
    return constraints_of(edits, open_array(workspace.fragments), parse_roi(plan.roi, plan.shape), fragments)


@contextmanager
def _appending(workspace: Workspace) -> Iterator[tuple[Edits, Callable[[list[dict[str, Any]]], None]]]:
    """Lock the file. Yield its edits, and a function that appends lines. Raises the errors of `read_edits`."""
    try:
        file = workspace.edits.open("a+b")
    except OSError as error:
        raise InputError(f"cannot write {workspace.edits}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        file.seek(0)
        content = file.read()
        yield _edits_in(workspace.edits, content), lambda entries: _append(file, content, entries)


def _append(file: BinaryIO, content: bytes, entries: list[dict[str, Any]]) -> None:
    """Append lines and flush them to the disk. Remove the part of a line that a crash left."""
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    with path_in_errors(file.name):
        file.truncate(content.rfind(b"\n") + 1)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _edits_in(path: Path, content: bytes) -> Edits:
    """Return the edits in the content of a file. A last line without an end was not written completely: ignore it."""
    active: dict[int, Edit] = {}
    last = 0
    lines = content.split(b"\n")[:-1]
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        entry = _parsed(line)
        if isinstance(entry, dict) and type(entry.get("undo")) is int:
            active.pop(entry["undo"], None)
            continue
        edit = _edit(entry, last + 1)
        if edit is None:
            raise InputError(
                f"line {place} of {path} is not an edit: {line[:100].decode(errors='replace')}",
                hint=f"correct or remove it; an edit looks like {_example()}",
            )
        active[edit.number] = edit
        last = max(last, edit.number)
    return Edits(tuple(active.values()), len(lines), last)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line) if len(line) <= _LONGEST_LINE else None
    except (ValueError, RecursionError):
        return None


def _edit(entry: Any, number: int) -> Edit | None:
    """Return the edit that a line describes, or None. `number` is its number if the line has none."""
    if not isinstance(entry, dict) or not set(entry) <= {"edit", *_KEYS} or entry.get("kind") not in KINDS:
        return None
    points, number = entry.get("points_voxels"), entry.get("edit", number)
    by, at = entry.get("by", ""), entry.get("at", "")
    if type(number) is not int or number < 1 or not isinstance(by, str) or not isinstance(at, str):
        return None
    if not isinstance(points, list) or len(points) != 2 or not all(map(_is_voxel, points)):
        return None
    return Edit(number, entry["kind"], (triple(points[0]), triple(points[1])), by, at)


def _is_voxel(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 3 and all(type(value) is int and value >= 0 for value in found)


def _require_inside(plan: Plan, edits: Sequence[Edit]) -> None:
    roi = parse_roi(plan.roi, plan.shape)
    for edit in edits:
        for point in edit.points_voxels:
            if not roi.contains(Coordinate(point)):
                raise InputError(
                    f"{edit}: voxel {','.join(map(str, point))} is outside the region of the run, {plan.roi}",
                    hint="give voxels as z, y, x, counted from the corner of the volume",
                )


def _require_tree(workspace: Workspace) -> None:
    if not all(path.exists() for path in (workspace.fragments, workspace.tree, workspace.all_nodes)):
        raise InputError(
            f"{workspace.path} has no fragments or no merge tree, so that nothing can be joined or split",
            hint=f"compute them: neuroseg segment {workspace.path}",
        )


def _content(edit: Edit) -> tuple[object, ...]:
    """Return what an edit means: the order of its points does not matter."""
    return edit.kind, *sorted(edit.points_voxels)


def _example() -> str:
    return '{"kind": "split", "points_voxels": [[4, 80, 90], [5, 81, 97]]}'


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        return str(os.getuid())


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
