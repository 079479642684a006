"""The edits of a workspace: `edits.jsonl`, one line per edit or undone edit. Lines are only ever appended.

    {"edit": 1, "kind": "split", "points_voxels": [[4, 80, 90], [5, 81, 97]], "by": "ada", "at": "2026-11-30T09:12:03Z"}
    {"undo": 1, "by": "ada", "at": "2026-11-30T09:15:40Z"}

Points are voxels (z, y, x) of the run's volume. The number of a new edit is the largest one in the file plus 1.
"""

from __future__ import annotations

import getpass
import json
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from funlib.geometry import Coordinate
from numpy.typing import NDArray

from neuroseg.agglomeration.constraints import KINDS, SPLIT, Edit, Fitting, constraints_of, require_fitting
from neuroseg.agglomeration.names import MERGE_TREE
from neuroseg.agglomeration.partition import Constraints
from neuroseg.errors import InputError, RunRefusedError
from neuroseg.geometry import parse_roi, triple
from neuroseg.runs.finished import is_finished
from neuroseg.runs.plan import Plan
from neuroseg.storage.arrays import open_array
from neuroseg.storage.first import write_first
from neuroseg.storage.merges import has_merges, read_nodes
from neuroseg.storage.space import path_in_errors
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import NODES

_KEYS = ("kind", "points_voxels", "by", "at")
_LONGEST_LINE, _LONGEST_WORD = 10_000, 100
# Adding an edit takes less than a second. A lock that is older belongs to a process that was killed.
_WAIT_S, _PAUSE_S, _STALE_S = 10.0, 0.05, 60.0


@dataclass(frozen=True)
class Edits:
    """The edits that are not undone, by number. `last_number`: the largest number in the file."""

    active: tuple[Edit, ...] = ()
    last_number: int = 0

    @property
    def key(self) -> str:
        """A word for what the edits mean. It does not depend on numbers, authors and times."""
        return f"{zlib.crc32(repr(sorted(map(_content, self.active))).encode()):08x}" if self.active else "none"


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
    return tuple(replace(edit, number=0) for edit in found)


def change_edits(
    workspace: Workspace,
    plan: Plan,
    new: Sequence[Edit] = (),
    undone: Sequence[int] = (),
    labels: Any = None,
    fragments: NDArray[np.uint64] | None = None,
) -> tuple[list[Edit], list[Edit]]:
    """Store that edits are undone, then new ones without those that are already there. Return both as they are stored.

    `labels` and `fragments`: as in `constraints_of`, those of the workspace by default. Raises InputError, and stores
    nothing, if an edit to undo does not exist, or if a new one does not fit the fragments or contradicts others.
    """
    with _locked(workspace):
        known = read_edits(workspace)
        by_number = {edit.number: edit for edit in known.active}
        if missing := [number for number in undone if number not in by_number]:
            numbers = ", ".join(map(str, by_number))
            hint = f"the edits are {numbers}" if numbers else "there are no edits"
            raise InputError(f"there is no edit {missing[0]} in {workspace.path}", hint=hint)
        kept = [edit for edit in known.active if edit.number not in undone]
        have = {_content(edit) for edit in kept}
        added = [edit for edit in {_content(edit): edit for edit in new}.values() if _content(edit) not in have]
        if added:
            _require_possible(workspace, plan, kept, added, labels, fragments)
        entries: list[dict[str, Any]] = [{"undo": number, "by": _user(), "at": _now()} for number in undone]
        stored = [
            replace(edit, number=known.last_number + place, by=edit.by or _user(), at=edit.at or _now())
            for place, edit in enumerate(added, start=1)
        ]
        entries += [{"edit": edit.number, **{key: getattr(edit, key) for key in _KEYS}} for edit in stored]
        _append(workspace.edits, entries)
        return stored, [by_number[number] for number in undone]


def _require_possible(
    workspace: Workspace,
    plan: Plan,
    kept: Sequence[Edit],
    added: Sequence[Edit],
    labels: Any,
    fragments: NDArray[np.uint64] | None,
) -> None:
    """Raise InputError if new edits do not fit, or if with them another one does not fit any more."""
    require_tree_for(plan, added, workspace)
    for edit in added:
        for point in edit.points_voxels:
            if not parse_roi(plan.roi, plan.shape).contains(Coordinate(point)):
                raise InputError(
                    f"{edit}: voxel {','.join(map(str, point))} is outside the region of the run, {plan.roi}",
                    hint="give voxels as z, y, x, counted from the corner of the volume",
                )
    if not (workspace.fragments.exists() and has_merges(workspace)):
        raise InputError(
            f"{workspace.path} has no fragments or no merge tree, so that nothing can be joined or split",
            hint=f"compute them: neuroseg segment {workspace.path}",
        )
    if fragments is None:
        fragments = read_nodes(workspace, {"fragment": NODES["fragment"]})["fragment"]
    before = {edit for edit, _ in fitting(workspace, plan, kept, fragments, labels).problems}
    after = fitting(workspace, plan, [*kept, *added], fragments, labels).problems
    for edit, problem in after:
        if edit not in before:
            raise InputError(f"{edit}: {problem}", hint="choose other points, or undo an edit it contradicts")


def require_tree_for(plan: Plan, edits: Sequence[Edit], workspace: Workspace) -> None:
    """Raise InputError if edits split segments that were not joined by a merge tree."""
    if plan.agglomeration != MERGE_TREE and any(edit.kind == SPLIT for edit in edits):
        raise InputError(
            f"--agglomeration {plan.agglomeration} computes one partition, in which nothing says where to split",
            hint=f"use --agglomeration tree, or undo the splits: neuroseg edits {workspace.path} lists them",
        )


def fitting(
    workspace: Workspace, plan: Plan, edits: Sequence[Edit], fragments: NDArray[np.uint64], labels: Any = None
) -> Fitting:
    """Return the constraints of edits for the fragments of a workspace. `labels` and `fragments` as `change_edits`."""
    array = open_array(workspace.fragments) if labels is None and edits else labels
    return constraints_of(edits, array, parse_roi(plan.roi, plan.shape), fragments)


def all_constraints(
    workspace: Workspace, plan: Plan, edits: Sequence[Edit], fragments: NDArray[np.uint64]
) -> Constraints:
    """Return the constraints of edits. Raises InputError that names all edits that do not fit the fragments."""
    found = fitting(workspace, plan, edits, fragments)
    require_fitting(found, workspace.path)
    return found.constraints


def is_written(workspace: Workspace, plan: Plan, edits: Edits) -> bool:
    """Return whether the finished segmentation has these edits."""
    return is_finished(workspace, plan.model_copy(update={"edits": edits.active}))


@contextmanager
def _locked(workspace: Workspace) -> Iterator[None]:
    """Hold a lock file, which works on every file system, so that no process overwrites the edits of another."""
    lock = workspace.edits.with_suffix(".lock")
    deadline = time.monotonic() + _WAIT_S
    try:
        while not write_first(lock, f"{os.getpid()}\n"):
            if _age_s(lock) > _STALE_S:
                lock.unlink(missing_ok=True)
            elif time.monotonic() > deadline:
                raise RunRefusedError(
                    f"another process is changing the edits of {workspace.path}", hint=f"try again, or remove {lock}"
                )
            time.sleep(_PAUSE_S)
    except OSError as error:
        raise InputError(f"cannot write in {workspace.path}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _age_s(path: Path) -> float:
    """Return the age of a file. 0 if another process has removed it."""
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime
    return 0.0


def _append(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    """Append lines and flush them to the disk: all or none. Remove the part of a line that a crash left."""
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    if not text:
        return
    with path_in_errors(path), path.open("a+b") as file:
        file.seek(0)
        end = file.read().rfind(b"\n") + 1
        try:
            file.truncate(end)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, end)
            raise


def _edits_in(path: Path, content: bytes) -> Edits:
    """Return the edits in the content of a file. A last line without an end was not written completely: ignore it."""
    active: dict[int, Edit] = {}
    line_of: dict[int, int] = {}
    for place, line in enumerate(content.split(b"\n")[:-1], start=1):
        if not line.strip():
            continue
        entry = _parsed(line)
        if isinstance(entry, dict) and type(entry.get("undo")) is int:
            active.pop(entry["undo"], None)
            continue
        edit = _edit(entry, max(line_of, default=0) + 1)
        if edit is None:
            raise InputError(
                f"line {place} of {path} is not an edit: {line[:100].decode(errors='replace')}",
                hint=f"correct or remove it; an edit looks like {_example()}",
            )
        if edit.number in line_of:
            raise InputError(
                f"line {place} of {path} has the number {edit.number} of line {line_of[edit.number]}",
                hint='remove "edit": N from the lines, then they are numbered anew',
            )
        active[edit.number], line_of[edit.number] = edit, place
    return Edits(tuple(active.values()), max(line_of, default=0))


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
    if type(number) is not int or number < 1 or not _is_word(by) or not _is_word(at):
        return None
    if not isinstance(points, list) or len(points) != 2 or not all(map(_is_voxel, points)):
        return None
    return Edit(number, entry["kind"], (triple(points[0]), triple(points[1])), by, at)


def _is_word(found: Any) -> bool:
    """Return whether a value is a short text that a terminal can show."""
    return isinstance(found, str) and len(found) <= _LONGEST_WORD and found.isprintable()


def _is_voxel(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 3 and all(type(n) is int and 0 <= n < 2**62 for n in found)


def _content(edit: Edit) -> tuple[object, ...]:
    """Return what an edit means: the order of its points does not matter."""
    return edit.kind, *sorted(edit.points_voxels)


def _example() -> str:
    return '{"kind": "split", "points_voxels": [[4, 80, 90], [5, 81, 97]]}'


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        name = str(os.getuid())
    return name if _is_word(name) else "unknown"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
