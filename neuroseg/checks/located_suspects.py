"""Suspects of the merge tree, as rows of tables -> suspects with a place, a position in nm and a description."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.checks.tree_run import TreeRun
from neuroseg.errors import DamagedError
from neuroseg.evaluation.fragment_places import box_of, contact_place, tip_place
from neuroseg.evaluation.merge_suspects import (
    doubtful_merges,
    doubtful_splits,
    region_sizes,
    small_contacts,
    strongest,
)
from neuroseg.evaluation.segment_cuts import SegmentCuts
from neuroseg.evaluation.suspect import DOUBTFUL_MERGE, DOUBTFUL_SPLIT, END, Suspect, counted, distinct, position_nm
from neuroseg.geometry import grown
from neuroseg.storage.parts import part_path, read_table
from neuroseg.tables import EDGES, Table

logger = logging.getLogger(__name__)


def merges_of(run: TreeRun) -> Table:
    """Return the suspects among the merges (merge_suspects.py), with the columns `u` and `v`: the two fragments.

    Logs a warning if the tables of edges were removed, because small contacts need them.
    """
    threshold, scores = run.plan.threshold, run.tree["score"]
    merged = int(np.searchsorted(scores, threshold))
    u, v = run.rows_of(run.tree["u"]), run.rows_of(run.tree["v"])
    voxels = run.nodes["voxel_count"].astype(np.int64)
    sizes = np.zeros(int(run.segment_of.max(initial=0)) + 1, np.int64)
    sizes[run.segments["segment"].astype(np.int64)] = run.segments["voxels"]
    of_row, total = {"u": run.segment_of[u], "v": run.segment_of[v]}, int(sizes.sum())
    regions = region_sizes(u[:merged], v[:merged], voxels)
    found = [
        doubtful_merges(scores, of_row, regions, total, threshold),
        doubtful_splits(scores, of_row, sizes, total, threshold),
    ]
    edges = run.workspace.edges
    if edges.is_dir():
        cuts = SegmentCuts(u[:merged], v[:merged], voxels)
        found.append(small_contacts(of_row, (cuts.one, cuts.other), _contacts(run, cuts), total))
    else:
        logger.warning("%s was removed, so small contacts are not searched", edges)
    rows = strongest(found)
    return {**rows, "u": u[rows["row"]], "v": v[rows["row"]]}


def _contacts(run: TreeRun, cuts: SegmentCuts) -> NDArray[np.int64]:
    """Return the voxel pairs between the two sides of each merged row. Reads the table of edges part by part."""
    columns = {name: EDGES[name] for name in ("u", "v", "contact_count")}
    crossings = np.zeros(len(run.nodes["fragment"]), np.int64)
    for index in run.plan.lattice.indices():
        edges = read_table(part_path(run.workspace.edges, index), columns)
        counts = edges["contact_count"].astype(np.int64)
        crossings += cuts.crossings(run.rows_of(edges["u"]), run.rows_of(edges["v"]), counts)
    return cuts.contacts(crossings)


def located_merge(run: TreeRun, rows: Table, number: int, box_voxels: int) -> Suspect:
    """Return a row of `merges_of` as a suspect. The place is on the side of the fragment u."""
    u, v = int(rows["u"][number]), int(rows["v"][number])
    ids = [int(run.nodes["fragment"][row]) for row in (u, v)]
    boxes = [box_of(run.nodes, row) for row in (u, v)]
    place = contact_place(
        run.fragments, (ids[0], boxes[0]), (ids[1], boxes[1]), run.plan.voxel_size_nm, box_voxels=box_voxels
    )
    if place is None:
        raise DamagedError(
            f"fragments {ids[0]} and {ids[1]} do not touch in {run.fragments.path}, but the merge tree merges them",
            hint=f"recompute both: neuroseg segment {run.workspace.path} --restart fragments",
        )
    segments = distinct(int(run.segment_of[u]), int(run.segment_of[v]))
    score = float(run.tree["score"][int(rows["row"][number])])
    return Suspect(
        kind=str(rows["kind"][number]),
        bits=float(rows["bits"][number]),
        place_voxels=place[0],
        place_nm=position_nm(run.labels, place[0]),
        segments=segments,
        fragments=(ids[0], ids[1]),
        score=score,
        description=_about_merge(rows, number, segments, score, run.plan.threshold),
        other_voxels=place[1],
        other_nm=position_nm(run.labels, place[1]),
    )


def _about_merge(rows: Table, number: int, segments: Sequence[int], score: float, threshold: float) -> str:
    one, other = (counted(int(rows[name][number]), "voxel") for name in ("one", "other"))
    kind, scored = rows["kind"][number], f"score {score:.3f}, threshold {threshold:g}"
    if kind == DOUBTFUL_SPLIT:
        return f"segments {segments[0]} ({one}) and {segments[1]} ({other}) were not merged: {scored}"
    if kind == DOUBTFUL_MERGE:
        return f"regions of {one} and {other} in segment {segments[0]} were merged: {scored}"
    pairs = counted(int(rows["contacts"][number]), "voxel pair")
    return f"sides of {one} and {other} of segment {segments[0]} touch at {pairs}: {scored}"


def located_end(run: TreeRun, rows: Table, number: int, box_voxels: int) -> Suspect | None:
    """Return a row of `end_suspects` as a suspect, or None if its tip touches the border of the mask."""
    segment = int(rows["segment"][number])
    fragments = np.flatnonzero(run.segment_of == np.uint64(segment))
    voxel, row = tip_place(run.fragments, run.nodes, fragments, run.plan.voxel_size_nm, box_voxels=box_voxels)
    if run.mask is not None and not run.mask(grown(Roi(voxel, (1, 1, 1)), (1, 1, 1), run.labels.roi)).all():
        return None
    voxels = int(run.nodes["voxel_count"][fragments].astype(np.int64).sum())
    return Suspect(
        kind=END,
        bits=float(rows["bits"][number]),
        place_voxels=voxel,
        place_nm=position_nm(run.labels, voxel),
        segments=(segment,),
        fragments=(int(run.nodes["fragment"][row]),),
        description=f"segment {segment} ({counted(voxels, 'voxel')}) ends here and touches no border of the region",
    )
