"""Tables of neighbouring blocks -> the merges that are certain, and what is left for the group around them.

    blocks -> groups of 2 x 2 x 2 -> groups of these groups -> ... -> the region of interest

A fragment is closed if no block outside the group can hold a voxel or a contact of it. Two regions of closed fragments
merge if their edge is the least (score, key) among all edges of both. With a reducible scoring, no later merge can give
either of them a better edge. So the same merge is in the tree of the whole region, and the groups give the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.evidence import with_evidence
from neuroseg.agglomeration.scorings import Scoring
from neuroseg.agglomeration.tree import as_regions, merged_regions, scored_bins
from neuroseg.blocks import Block, Lattice
from neuroseg.geometry import Box, Triple, triple
from neuroseg.tables import BINS, EDGES, NODES, REGIONS, TABLES, Table, combined

_AXES = ("z", "y", "x")
# The smallest groups are at least this wide: about 50,000 fragments.
_LEAST_WIDTH_VOXELS = 512


@dataclass(frozen=True)
class OpenTables:
    """The tables that a group leaves to the larger group around it. Those of a block are all of its tables.

    `nodes`: parts of fragments that may have voxels or contacts elsewhere. `edges`, `bins`, `long_range` and
    `long_range_bins`: parts of edges between two of these fragments. `regions` and `region_bins`: complete edges, and
    their histograms, of regions that must wait for one of these fragments.
    """

    nodes: Table
    edges: Table
    bins: Table
    long_range: Table
    long_range_bins: Table
    regions: Table
    region_bins: Table


Read = Callable[[str], list[Table]]
COLUMNS: Mapping[str, Mapping[str, type[np.generic]]] = {**TABLES, "regions": REGIONS, "region_bins": BINS}
"""The columns of each of the open tables."""


def group_lattices(blocks: Lattice) -> list[Lattice]:
    """Return the lattices of the groups: the smallest ones first, last a lattice with the whole region in one group."""
    factors = [1, 1, 1]
    for axis, width in enumerate(blocks.block_shape):
        while width * factors[axis] < _LEAST_WIDTH_VOXELS:
            factors[axis] *= 2
    shape = triple([width * factor for width, factor in zip(blocks.block_shape, factors, strict=True)])
    lattices = [Lattice(blocks.volume_shape, shape, blocks.roi, blocks.wanted)]
    while lattices[-1].touching > 1:
        shape = triple([2 * width for width in shape])
        lattices.append(Lattice(blocks.volume_shape, shape, blocks.roi, blocks.wanted))
    return lattices


def inner_box(group: Block, lattice: Lattice, offsets: Sequence[Triple]) -> Box | None:
    """Return the box in which a fragment is closed (`merged_group`). None if the group covers the whole region.

    A pair (voxel, voxel + offset) belongs to the block of `voxel`. So a fragment is open if it is so close to an inner
    face that its voxel may be the partner of one outside, or the neighbour of another voxel of the same fragment.
    """
    box = []
    for axis, (begin, end) in enumerate(group.write_box):
        first, last = int(lattice.roi.begin[axis]), int(lattice.roi.end[axis])
        steps = [offset[axis] for offset in offsets]
        low, high = max(1, *steps), max(1, *(-step for step in steps))
        box.append((begin + low if begin > first else begin, end - high if end < last else end))
    inner = (box[0], box[1], box[2])
    return None if inner == group.write_box else inner


def merged_group(read: Read, inner: Box | None, scoring: Scoring) -> tuple[Table, Table, OpenTables]:
    """Return the merges of a group (columns of tables.TREE), its closed fragments (tables.NODES), and what is left.

    `read(name)` returns one of the tables that the parts of the group left, one for each part, in any order. Each is
    read when it is needed, and its columns are removed from it, so that memory is free again. A fragment is closed if
    its bounding box lies in `inner` (begin and end along z, y and x in voxels). `inner` is None for the whole region:
    all fragments are closed, and nothing is left. Merges are sorted by (score, u, v), fragments by their ids. Without
    parts, all tables are empty.
    """
    nodes = combined(read("nodes"), NODES)
    is_closed = _is_within(nodes, inner)
    closed = nodes["fragment"][is_closed]
    complete, left = {}, {"nodes": _rows(nodes, ~is_closed)}
    for name, columns in TABLES.items():
        if name != "nodes":
            whole = combined(read(name), columns)
            known = _holds(closed, whole["u"]) | _holds(closed, whole["v"])
            complete[name], left[name] = _rows(whole, known), _rows(whole, ~known)
    new, new_bins = _new_regions(complete, closed, scoring)
    complete.clear()
    earlier = read("regions")
    for table in earlier:
        table["b_is_closed"] = table["b_is_closed"] | _holds(closed, table["b"])
    regions, bins = _sorted([*earlier, new], REGIONS), _sorted([*read("region_bins"), new_bins], BINS)
    tree, regions, bins = merged_regions(regions, bins, scoring)
    return tree, _rows(nodes, is_closed), OpenTables(**left, regions=regions, region_bins=bins)


def from_parts(parts: Sequence[OpenTables]) -> Read:
    """Return the function that `merged_group` reads with, of tables in memory. They are not changed."""
    return lambda name: [dict(getattr(part, name)) for part in parts]


def _new_regions(complete: Mapping[str, Table], closed: NDArray[np.uint64], scoring: Scoring) -> tuple[Table, Table]:
    """Return the edges that have become complete as edges between regions of one fragment, and their histograms."""
    contacts, bins = complete["edges"], complete["bins"]
    edges = with_evidence(contacts, complete["long_range"], contacts, EDGES)
    if scoring.every_contact:
        bins = with_evidence(bins, complete["long_range_bins"], contacts, BINS)
    regions = as_regions(edges)
    is_first, is_second = _holds(closed, edges["u"]), _holds(closed, edges["v"])
    ends = {
        "a": np.where(is_first, edges["u"], edges["v"]),
        "b": np.where(is_first, edges["v"], edges["u"]),
        "b_is_closed": (is_first & is_second).astype(np.uint8),
    }
    return {**regions, **ends}, scored_bins(edges, bins, scoring)


def _is_within(nodes: Table, inner: Box | None) -> NDArray[np.bool_]:
    """Return whether the bounding box of each fragment lies in `inner`."""
    within = np.ones(len(nodes["fragment"]), bool)
    for axis, (begin, end) in zip(_AXES, inner or (), strict=inner is not None):
        within &= (nodes[f"min_{axis}"] >= begin) & (nodes[f"max_{axis}"] < end)
    return within


def _holds(ids: NDArray[np.uint64], values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return whether each value is one of `ids`, which ascend."""
    if not len(ids):
        return np.zeros(len(values), bool)
    found: NDArray[np.bool_] = ids[np.minimum(np.searchsorted(ids, values), len(ids) - 1)] == values
    return found


def _rows(table: Table, chosen: NDArray[np.bool_]) -> Table:
    return {name: column[chosen] for name, column in table.items()}


def _sorted(parts: Sequence[Table], columns: Mapping[str, type[np.generic]]) -> Table:
    """Return all rows, sorted by their key (u, v), and bins by their value. Takes the columns out of the parts."""
    rows = {
        name: np.concatenate([np.zeros(0, dtype), *(part.pop(name) for part in parts)])
        for name, dtype in columns.items()
    }
    last = (rows["bin"],) if "bin" in columns else ()
    order = np.lexsort((*last, rows["v"], rows["u"]))
    for name in columns:
        rows[name] = rows[name][order]
    return rows
