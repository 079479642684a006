"""Tables of neighbouring blocks -> the merges that are certain, and what is left for the group around them.

    blocks -> groups of 2 x 2 x 2 -> groups of these groups -> ... -> the region of interest

A fragment is closed if no block outside the group can hold a voxel or a contact of it. Two regions of closed fragments
merge if their edge is the least (score, key) among all edges of both. With a reducible scoring, no later merge can give
either of them a better edge. So the same merge is in the tree of the whole region, and the groups give the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.evidence import with_evidence
from neuroseg.agglomeration.ordering import NameIndex, row_order
from neuroseg.agglomeration.region_rows import Parts, chained, in_memory
from neuroseg.agglomeration.scorings import MEAN, Scoring
from neuroseg.agglomeration.tree import as_regions, merged_regions, scored_bins
from neuroseg.blocks import Block, Lattice
from neuroseg.geometry import Box, Triple, triple
from neuroseg.tables import BINS, EDGES, NODES, REGIONS, TABLES, Allocate, Table, combined

_AXES = ("z", "y", "x")
# The smallest groups are at least this wide: about 50,000 fragments.
_LEAST_WIDTH_VOXELS = 512


Read = Callable[[str], Parts]
COLUMNS: Mapping[str, Mapping[str, type[np.generic]]] = {**TABLES, "regions": REGIONS, "region_bins": BINS}
"""The columns of the tables that a group leaves to the larger group around it. Those of a block are all of its tables.

`nodes`: parts of fragments that may have voxels or contacts elsewhere. `edges`, `bins`, `long_range` and
`long_range_bins`: parts of edges between two of these fragments. `regions` and `region_bins`: complete edges, and their
histograms, of regions that must wait for one of these fragments.
"""


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
    """Return the box in which a fragment is closed (`closed_fragments`). None if the group covers the whole region.

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


def closed_fragments(parts: Sequence[Table], inner: Box | None) -> tuple[Table, Table]:
    """Return the closed fragments of a group and the open ones (both tables.NODES, by ascending fragment).

    A fragment is closed if its bounding box lies in `inner` (begin and end along z, y and x in voxels). `inner` is None
    for the whole region: all fragments are closed. `parts`: the fragments that the parts of the group left.
    """
    nodes = combined(parts, NODES, row_order)
    is_closed = _is_within(nodes, inner)
    return _rows(nodes, is_closed), _rows(nodes, ~is_closed)


def merged_edges(
    read: Read,
    closed: NDArray[np.uint64],
    scoring: Scoring,
    allocator: Callable[[int, int], Allocate] = lambda edges, bins: np.empty,
) -> tuple[Table, dict[str, Table]]:
    """Return the merges of a group (columns of tables.TREE), and the tables of edges that it leaves (`COLUMNS`).

    `read(name)` returns one of the tables that the parts of the group left. `closed`: the ids of the fragments that are
    closed now. Merges are sorted by (score, u, v). Without parts, all tables are empty. `allocator` returns, for
    the numbers of edges between regions and of entries of histograms, the function that allocates arrays for them.
    """
    names, complete, left = NameIndex(closed), {}, {}
    for name, columns in TABLES.items():
        if name != "nodes":
            whole = combined(list(read(name).read(tuple(columns))), columns, row_order)
            known = names.holds(whole["u"]) | names.holds(whole["v"])
            complete[name], left[name] = _rows(whole, known), _rows(whole, ~known)
    regions, bins = _new_regions(complete, names, scoring)
    complete.clear()
    every = chained(_also_closed(read("regions"), names), in_memory([regions]))
    every_bin = chained(read("region_bins"), in_memory([bins]))
    new = allocator(every.count(), 0 if scoring.percent == MEAN else every_bin.count())
    tree, left["regions"], left["region_bins"] = merged_regions(every, every_bin, scoring, new)
    return tree, left


def _new_regions(complete: Mapping[str, Table], closed: NameIndex, scoring: Scoring) -> tuple[Table, Table]:
    """Return the edges that have become complete as edges between regions of one fragment, and their histograms."""
    contacts, bins = complete["edges"], complete["bins"]
    edges = with_evidence(contacts, complete["long_range"], contacts, EDGES)
    if scoring.every_contact:
        bins = with_evidence(bins, complete["long_range_bins"], contacts, BINS)
    is_first, is_second = closed.holds(edges["u"]), closed.holds(edges["v"])
    ends = {
        "a": np.where(is_first, edges["u"], edges["v"]),
        "b": np.where(is_first, edges["v"], edges["u"]),
        "b_is_closed": (is_first & is_second).astype(np.uint8),
    }
    return {**as_regions(edges), **ends}, scored_bins(edges, bins, scoring)


def _also_closed(regions: Parts, closed: NameIndex) -> Parts:
    """Return the parts, with `b_is_closed` for the fragments that are closed now."""

    def read(names: Sequence[str]) -> Iterator[Table]:
        for part in regions.read(names):
            if "b_is_closed" in part:
                part["b_is_closed"] = part["b_is_closed"] | closed.holds(part["b"])
            yield part

    return Parts(regions.count, read)


def _is_within(nodes: Table, inner: Box | None) -> NDArray[np.bool_]:
    """Return whether the bounding box of each fragment lies in `inner`."""
    within = np.ones(len(nodes["fragment"]), bool)
    for axis, (begin, end) in zip(_AXES, inner or (), strict=inner is not None):
        within &= (nodes[f"min_{axis}"] >= begin) & (nodes[f"max_{axis}"] < end)
    return within


def _rows(table: Table, chosen: NDArray[np.bool_]) -> Table:
    return {name: column[chosen] for name, column in table.items()}
