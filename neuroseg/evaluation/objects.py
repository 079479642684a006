"""Contingency table and places -> the share of the variation of information of each true object and segment."""

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

    `table` is a contingency table (evaluation/contingency.py). `places` contains at least the places of its pieces
    (evaluation/pieces.py). An empty table gives no rows. Columns:

    - `bits`: contribution to VOI split or VOI merge. The rows of one error sum to that score.
    - `share`: share of the VOI sum.
    - `voxels`: number of counted voxels.
    - `parts`: number of segments that split the true object, or of true objects that the segment merges.
    - `largest_part`: voxels of the largest part. `part_ids`: ids of the largest parts.
    - `z, y, x`: the first voxel of the second largest part next to another part. If none is known, the first voxel of
      that part. For an object with one part, its first voxel.
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
    """Write the rows of `object_errors` as CSV with a header line. Readers never see a partial file."""
    columns = [[f"{bits:.9f}" for bits in rows[name]] if name in ("bits", "share") else rows[name] for name in COLUMNS]
    with published(path) as aside, aside.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(zip(*columns, strict=True))


def _placed(table: Table, places: Table) -> Table:
    """Return the contingency table with the places of its pieces. Places of ignored pieces are left out."""
    nowhere = {name: np.full(len(table["count"]), NOWHERE) for name in PLACES if name not in table}
    uncounted = {"count": np.zeros(len(places["truth"]), np.uint64)}
    rows = combined([table | nowhere, places | uncounted], {**CONTINGENCY, **PLACES})
    return {name: column[rows["count"] > 0] for name, column in rows.items()}


def _errors(error: str, of: str, among: str, meetings: NDArray[np.uint64], pieces: Table) -> Table:
    """Return a row per id in column `of`. Column `among` identifies its parts, `voxel` is the place of the error."""
    counts = pieces["count"].astype(np.float64)
    order = np.lexsort((pieces[among], -counts, pieces[of]))
    ids, starts, parts = np.unique(pieces[of][order], return_index=True, return_counts=True)
    if not len(ids):
        nothing = np.zeros(0)
        return dict.fromkeys(("error", "id", "bits", "voxels", "parts", "largest_part", "part_ids", "voxel"), nothing)
    counts = counts[order]
    sizes = np.add.reduceat(counts, starts)
    # Contribution of each part to the conditional entropy: p log2(object size / part size), p = share of all voxels.
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
    """Return the first ids of each group as text, separated by spaces."""
    ends = starts + np.minimum(parts, _LISTED_PARTS)
    texts = [" ".join(map(str, ids[start:end].tolist())) for start, end in zip(starts, ends, strict=True)]
    return np.array(texts, object)
