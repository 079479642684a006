"""Two workspaces of the same volume -> the artifacts that differ, and the place of each difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.storage.arrays import is_array, open_array
from neuroseg.storage.labels import labels_of
from neuroseg.storage.merges import read_tree
from neuroseg.storage.parts import map_lookup, parts_in, read_table
from neuroseg.storage.trees import Place
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import BINS, EDGES, LOOKUP, NODES, SECTIONS, Table, combined

_SLAB_SECTIONS = 32


@dataclass(frozen=True)
class Difference:
    """`count` of `total` values differ: voxels of an array, or rows of a table.

    Array: `first` is the index of the first difference; `begin` and `end` bound all differences.
    Table: `first` is the first row that differs, or the row count of the other table if the counts differ. `begin` and
    `end` are empty.
    """

    artifact: str
    count: int
    total: int
    first: tuple[int, ...]
    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()


def compared(one: Workspace, other: Workspace) -> Iterator[tuple[str, Difference | None]]:
    """Yield the name of each artifact, in the order of the stages, and its difference (None if it is equal).

    Compares arrays voxel by voxel, one slab at a time. Compares tables after it combines and sorts their parts. Chunks
    and part files depend on the blocks and are not compared. An artifact in only one workspace counts as a difference.
    Arrays, merges and levels that neither workspace contains are skipped.
    """
    for name in ("affinities.zarr", "fragments.zarr"):
        if one.artifact(name).exists() or other.artifact(name).exists():
            yield name, array_difference(name, one.artifact(name), other.artifact(name))
    for name, read in _TABLES.items():
        file = _WHOLE_FILES.get(name)
        present = [file is None or workspace.artifact(file).exists() for workspace in (one, other)]
        if all(present):
            yield name, table_difference(name, read(one), read(other))
        elif any(present):
            yield name, Difference(name, 1, 1, ())
    images = labels_of(one), labels_of(other)
    found = {path.name for image in images if image.is_dir() for path in image.iterdir() if is_array(path)}
    for level in sorted(found, key=int):
        yield f"segmentation.zarr/{level}", array_difference(f"segmentation.zarr/{level}", *(i / level for i in images))


def array_difference(name: str, one: Place, other: Place) -> Difference | None:
    """Return the difference of two arrays, or None if they are equal."""
    if not (one.exists() and other.exists()):
        return Difference(name, 1, 1, ())
    first, second = open_array(one), open_array(other)
    if first.shape != second.shape or first.dtype != second.dtype:
        return Difference(name, 1, 1, tuple(second.shape))
    found = []
    for z in range(0, first.shape[-3], _SLAB_SECTIONS):
        box = (..., slice(z, z + _SLAB_SECTIONS), slice(None), slice(None))
        places = np.argwhere(first[box] != second[box])
        places[:, -3] += z
        found.append(places)
    places = np.concatenate(found)
    if not len(places):
        return None
    size = int(np.prod(first.shape))
    begin, end = places.min(axis=0), places.max(axis=0) + 1
    return Difference(name, len(places), size, _plain(places[0]), _plain(begin), _plain(end))


def table_difference(name: str, one: Table, other: Table) -> Difference | None:
    """Return the difference of two sorted tables, or None if they are equal."""
    rows, others = (len(next(iter(table.values()))) for table in (one, other))
    if rows != others:
        return Difference(name, max(1, abs(rows - others)), rows, (others,))
    unequal = np.zeros(rows, bool)
    for column, values in one.items():
        unequal |= values != other[column]
    places = np.flatnonzero(unequal)
    return Difference(name, len(places), rows, (int(places[0]),)) if len(places) else None


def _plain(place: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(value) for value in place)


def _parts(folder: Place, columns: Any) -> Table:
    """Return the combined parts of a table. Empty if there is no folder."""
    return combined([read_table(file, columns) for file in parts_in(folder).values()], columns)


# Tables stored as one file. The others are folders of parts; a missing folder is an empty table.
_WHOLE_FILES = {"merges/tree": "merges/tree.parquet", "merges/lookup": "merges/lookup.npy"}
_TABLES: dict[str, Callable[[Workspace], Table]] = {
    "sections": lambda workspace: _parts(workspace.sections, SECTIONS),
    "edges": lambda workspace: _parts(workspace.edges, EDGES),
    "nodes": lambda workspace: _parts(workspace.nodes, NODES),
    "long_range": lambda workspace: _parts(workspace.long_range, EDGES),
    "bins": lambda workspace: _parts(workspace.bins, BINS),
    "long_range_bins": lambda workspace: _parts(workspace.long_range_bins, BINS),
    "merges/tree": lambda workspace: read_tree(workspace),
    "merges/lookup": lambda workspace: {name: map_lookup(workspace.lookup)[name] for name in LOOKUP},
}
