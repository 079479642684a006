"""Find the files and voxels that a block changed, and the input files that it must not read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.blocks import Block
from neuroseg.storage.arrays import is_array, open_array
from neuroseg.storage.stored import Artifact, artifact_at, files_of
from neuroseg.storage.workspace import Workspace

# Inode, time and size: a replaced file has another inode, a modified file has another time.
Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Footprint:
    """The stamps of all files below a folder, and the values of the arrays among a stage's outputs."""

    stamps: dict[Path, Stamp]
    arrays: dict[str, tuple[Artifact, NDArray[Any]]]

    @classmethod
    def of(cls, folder: Path, workspace: Workspace, outputs: Sequence[str]) -> Footprint:
        """Return the present footprint of `outputs` and of all files below `folder`."""
        stats = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
        stamps = {path: (stat.st_ino, stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}
        places = {name: workspace.artifact(name) for name in outputs}
        found = {name: artifact_at(place) for name, place in places.items() if is_array(place)}
        arrays = {name: (each, np.asarray(open_array(each.place)[:])) for name, each in found.items() if each}
        return cls(stamps, arrays)

    def foreign_files(
        self, before: Footprint, workspace: Workspace, outputs: Sequence[str], block: Block
    ) -> list[Path]:
        """Return the files that changed since `before` and do not belong to `block`."""
        own = {Path(str(file)) for name in outputs for file in files_of(workspace.artifact(name), block)}
        paths = self.stamps.keys() | before.stamps.keys()
        return sorted(path for path in paths - own if self.stamps.get(path) != before.stamps.get(path))

    def foreign_voxels(self, before: Footprint, block: Block) -> dict[str, int]:
        """Return the number of changed voxels outside the write_roi of `block`, by array. Omit unchanged arrays."""
        counts = {}
        for name, (artifact, array) in self.arrays.items():
            outside = np.ones(array.shape[-3:], bool)
            outside[tuple(slice(begin, end) for begin, end in artifact.part_of(block))] = False
            counts[name] = int(((array != before.arrays[name][1]) & outside).sum())
        return {name: count for name, count in counts.items() if count}


def files_outside(workspace: Workspace, inputs: Iterable[str], block: Block) -> list[Path]:
    """Return the files of input arrays that contain no voxel of the read_roi of `block`."""
    read = Block(block.index, block.read_box, block.read_box)
    files: list[Path] = []
    for name in inputs:
        place = workspace.artifact(name)
        artifact = artifact_at(place)
        if artifact is None or artifact.shape is None:
            continue
        touched = {Path(str(file)) for file in artifact.files(read)}
        shards = (path for path in Path(str(place / "c")).rglob("*") if path.is_file())
        files += sorted(path for path in shards if path not in touched)
    return files


def remove_others(workspace: Workspace, names: Sequence[str]) -> None:
    """Remove every file of a workspace that does not belong to the artifacts `names`."""
    root = Path(str(workspace.artifacts))
    for path in [path for path in root.rglob("*") if path.is_file()]:
        where = path.relative_to(root).as_posix()
        if not any(where == name or where.startswith(f"{name}/") for name in names):
            path.unlink()
