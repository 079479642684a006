"""Contingency and places -> what each true object and each segment adds to the variation of information."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroseg.evaluation.contingency import CONTINGENCY
from neuroseg.evaluation.pieces import NOWHERE, PLACES
from neuroseg.geometry import Triple
from neuroseg.storage.publish import published
from neuroseg.tables import Table, combined

COLUMNS = ("error", "id", "bits", "share", "voxels", "parts", "largest_part", "part_ids", "z", "y", "x")

_LISTED_PARTS = 5


def object_errors(table: Table, places: Table, volume_shape: Triple) -> Table:
    """Return one row per true object (error `split`) and per segment (error `merge`), the worst first.

    Columns: `bits`, what it adds to VOI split or merge (all rows of a kind sum to it); `share` of VOI sum; `voxels`
    that count; `parts`, the segments a true object falls into or the true objects a segment joins; `largest_part` in
    voxels; `part_ids` of the largest few; `z, y, x` of the volume, a voxel of the second largest part beside another
    part of it: the first in the volume, or where none is known the part's first voxel. What is whole points to its own
    first voxel. `table` is a contingency (evaluation/contingency.py), `places` those of its pieces or of more
    (evaluation/pieces.py); from no rows come none.
    """
    pieces = _placed(table, places)
    splits = _errors("split", "truth", "segment", pieces["min_split_voxel"], pieces)
    merges = _errors("merge", "segment", "truth", pieces["min_merge_voxel"], pieces)
    rows: Table = {name: np.concatenate([splits[name], merges[name]]) for name in splits}
    rows["share"] = rows["bits"] / max(rows["bits"].sum(), np.finfo(float).tiny)
    rows["z"], rows["y"], rows["x"] = np.unravel_index(rows.pop("voxel").astype(np.int64), volume_shape)
    worst_first = np.lexsort((rows["id"], rows["error"], -rows["voxels"].astype(np.int64), -rows["bits"]))
    return {name: rows[name][worst_first] for name in COLUMNS}


def write_objects(path: Path, rows: Table) -> None:
    """Write rows of `object_errors` as CSV with a line of column names, in one step."""
    columns = [[f"{bits:.9f}" for bits in rows[name]] if name in ("bits", "share") else rows[name] for name in COLUMNS]
    with published(path) as aside, aside.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(zip(*columns, strict=True))


def _placed(table: Table, places: Table) -> Table:
    """Return the contingency with the places of its pieces; those of pieces that do not count are left out."""
    nowhere = {name: np.full(len(table["count"]), NOWHERE) for name in PLACES if name not in table}
    uncounted = {"count": np.zeros(len(places["truth"]), np.uint64)}
    rows = combined([table | nowhere, places | uncounted], {**CONTINGENCY, **PLACES})
    return {name: column[rows["count"] > 0] for name, column in rows.items()}


def _errors(error: str, of: str, among: str, meetings: NDArray[np.uint64], pieces: Table) -> Table:
    """Return a row per id in column `of`, whose parts are told apart by column `among`; `voxel` is where to look."""
    counts = pieces["count"].astype(np.float64)
    order = np.lexsort((pieces[among], -counts, pieces[of]))
    ids, starts, parts = np.unique(pieces[of][order], return_index=True, return_counts=True)
    if not len(ids):
        nothing = np.zeros(0)
        return dict.fromkeys(("error", "id", "bits", "voxels", "parts", "largest_part", "part_ids", "voxel"), nothing)
    counts = counts[order]
    sizes = np.add.reduceat(counts, starts)
    # Each part's share of the entropy of what it is cut into: -p log2 p of the whole volume, minus the object's own.
    entropies = counts * np.log2(np.repeat(sizes, parts) / counts) / counts.sum()
    second = order[starts + (parts > 1)]
    met = (parts > 1) & (meetings[second] != NOWHERE)
    return {
        "error": np.full(len(ids), error),
        "id": ids,
        "bits": np.add.reduceat(entropies, starts),
        "voxels": sizes.astype(np.uint64),
        "parts": parts,
        "largest_part": counts[starts].astype(np.uint64),
        "part_ids": _listed(pieces[among][order], starts, parts),
        "voxel": np.where(met, meetings[second], pieces["min_voxel"][second]),
    }


def _listed(ids: NDArray[np.uint64], starts: NDArray[np.int64], parts: NDArray[np.int64]) -> NDArray[np.object_]:
    """Return the first few ids of each group as text, separated by blanks."""
    ends = starts + np.minimum(parts, _LISTED_PARTS)
    texts = [" ".join(map(str, ids[start:end].tolist())) for start, end in zip(starts, ends, strict=True)]
    return np.array(texts, object)
