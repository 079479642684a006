"""Merge tree, sizes of fragments and their contacts -> the merges that may be wrong, each with a weight in bits.

Three kinds:

- `doubtful merge`: two regions were merged, with a score just below the threshold.
- `doubtful split`: two segments were not merged, with a score at or just above the threshold.
- `small contact`: two sides of a segment, linked by a merge, have a contact that is small for their size.

The weight is the change of the VOI if the decision is wrong (suspect.joining_bits), times a factor from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.partition import root
from neuroseg.evaluation.suspect import DOUBTFUL_MERGE, DOUBTFUL_SPLIT, SMALL_CONTACT, joining_bits
from neuroseg.kernels import compiled
from neuroseg.tables import Table, concatenated

# A score is doubtful within this distance of the threshold. The factor falls from 1 at the threshold to 0 there.
DOUBTFUL_SCORES = 0.1
# A contact of n voxel pairs is small if n is below this share of size^(2/3), the voxels of a face of a cube with the
# size of the smaller side. The factor falls from 1 to 0 there.
SMALL_CONTACTS = 0.05

SUSPECT_COLUMNS = {
    "kind": np.object_,
    "row": np.int64,  # of the tree
    "bits": np.float64,
    "one": np.int64,  # voxels on the side of fragment u
    "other": np.int64,  # voxels on the side of fragment v
    "contacts": np.int64,  # voxel pairs between the two sides, -1 if unknown
}


Sizes = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Voxels on the side of the fragment u of each row, and on that of v."""


def region_sizes(u: NDArray[np.int64], v: NDArray[np.int64], sizes: NDArray[np.int64]) -> Sizes:
    """Return the voxels `(rows,)` int64 of both regions that each row of a merge tree joins, before it joins them.

    `u`, `v` `(rows,)`: the fragments of each row, as indices in `sizes`. `sizes` `(n,)` int64: voxels of each fragment.
    """
    one, other = _joined(u, v, sizes)
    return one, other


def doubtful_merges(
    scores: NDArray[np.float64], segments: Table, regions: Sizes, total: int, threshold: float
) -> Table:
    """Return the doubtful merges, with SUSPECT_COLUMNS.

    `scores` `(rows,)`: all scores of the tree, ascending. `segments`: the columns `u` and `v` with the segments of both
    fragments of each row, 0 without a segment. `regions`: `region_sizes` of the rows with a score below `threshold`.
    `total`: voxels of all segments.
    """
    rows = _merged(segments, len(regions[0]))
    rows = rows[scores[rows] > threshold - DOUBTFUL_SCORES]
    one, other = regions[0][rows], regions[1][rows]
    factors = 1 - (threshold - scores[rows]) / DOUBTFUL_SCORES
    return _suspects(DOUBTFUL_MERGE, rows, one, other, factors, total)


def doubtful_splits(
    scores: NDArray[np.float64], segments: Table, sizes: NDArray[np.int64], total: int, threshold: float
) -> Table:
    """Return the doubtful splits, with SUSPECT_COLUMNS. `sizes[s]`: voxels of segment s. Else as `doubtful_merges`."""
    begin, end = np.searchsorted(scores, [threshold, threshold + DOUBTFUL_SCORES]).tolist()
    u, v = (segments[side][begin:end].astype(np.int64) for side in "uv")
    apart = np.flatnonzero((u != v) & (u > 0) & (v > 0))
    factors = 1 - (scores[begin + apart] - threshold) / DOUBTFUL_SCORES
    return _suspects(DOUBTFUL_SPLIT, begin + apart, sizes[u[apart]], sizes[v[apart]], factors, total)


def small_contacts(segments: Table, sides: Sizes, contacts: NDArray[np.int64], total: int) -> Table:
    """Return the small contacts, with SUSPECT_COLUMNS.

    `sides` and `contacts`: voxels on both sides of each merged row, and voxel pairs between them (segment_cuts.py).
    `segments` and `total` as for `doubtful_merges`.
    """
    rows = _merged(segments, len(contacts))
    one, other, pairs = sides[0][rows], sides[1][rows], contacts[rows]
    factors = 1 - pairs / (SMALL_CONTACTS * np.minimum(one, other) ** (2 / 3))
    return _suspects(SMALL_CONTACT, rows, one, other, factors, total, pairs)


def _merged(segments: Table, rows: int) -> NDArray[np.int64]:
    """Return those of the first rows that merged two fragments of one segment. Dropped segments have none."""
    u, v = segments["u"][:rows], segments["v"][:rows]
    return np.flatnonzero((u == v) & (u > 0))


def _suspects(
    kind: str,
    rows: NDArray[np.int64],
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    factors: NDArray[np.float64],
    total: int,
    contacts: NDArray[np.int64] | None = None,
) -> Table:
    """Return the table of one kind, without the rows whose factor is not above 0."""
    kept = factors > 0
    one, other = one[kept], other[kept]
    return {
        "kind": np.full(len(one), kind, object),
        "row": rows[kept],
        "bits": joining_bits(one, other, total) * factors[kept],
        "one": one,
        "other": other,
        "contacts": np.full(len(one), -1) if contacts is None else contacts[kept],
    }


def strongest(tables: Sequence[Table]) -> Table:
    """Return the rows of all tables, the most bits first. Of several suspects of one row of the tree, keep the first.

    Suspects with equal bits are sorted by row, then by the order of the tables.
    """
    every = concatenated(tables, SUSPECT_COLUMNS)
    order = np.lexsort((every["row"], -every["bits"]))
    # np.unique returns the first place of each row.
    first = np.sort(np.unique(every["row"][order], return_index=True)[1])
    return {name: column[order[first]] for name, column in every.items()}


@compiled
def _joined(u, v, sizes):  # type: ignore[no-untyped-def]
    """Join the regions row by row. Return the voxels of both regions of each row, before it joins them."""
    parents, voxels = np.arange(len(sizes)), sizes.copy()
    one, other = np.empty(len(u), np.int64), np.empty(len(u), np.int64)
    for row in range(len(u)):
        kept, gone = root(parents, u[row]), root(parents, v[row])
        one[row], other[row] = voxels[kept], voxels[gone]
        parents[gone] = kept
        voxels[kept] += voxels[gone]
    return one, other
