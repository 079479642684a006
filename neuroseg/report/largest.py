"""Tables of fragments -> sizes of segments, and the place and the shape of the largest ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.geometry import Triple
from neuroseg.report.reported import ReportedRun
from neuroseg.storage.merges import node_parts
from neuroseg.storage.parts import map_lookup
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import NODES, Table, concatenated, looked_up

# A level of the pyramid is used for a segment if its box there has at most this many voxels.
_SHAPE_VOXELS = 2**19


@dataclass(frozen=True)
class LargeSegment:
    """A segment with its voxels, its fragments, and its bounding box in voxels."""

    segment: int
    voxels: int
    fragments: int
    box: Roi


def stored_sizes(workspace: Workspace) -> NDArray[np.int64] | None:
    """Return the voxels of segments 0 (none) to N. None without the tables. Raises DamagedError if one is damaged."""
    if not (workspace.all_nodes.exists() and workspace.lookup.exists()):
        return None
    lookup = map_lookup(workspace.lookup)
    sizes = np.zeros(int(lookup["segment"].max(initial=0)) + 1, np.int64)
    for nodes in node_parts(workspace, {name: NODES[name] for name in ("fragment", "voxel_count")}):
        segments = looked_up(nodes["fragment"], lookup).astype(np.int64)
        np.add.at(sizes, segments, nodes["voxel_count"].astype(np.int64))
    return sizes


def largest_segments(workspace: Workspace, sizes: NDArray[np.int64], count: int) -> list[LargeSegment]:
    """Return up to `count` segments with the most voxels, largest first; of equal ones, the lowest id first.

    `sizes` is the result of `stored_sizes`.
    """
    ids = np.argsort(-sizes[1:], kind="stable")[:count] + 1
    ids = ids[sizes[ids] > 0]
    lookup, names = map_lookup(workspace.lookup), [f"{side}_{axis}" for side in ("min", "max") for axis in "zyx"]
    found: list[list[Table]] = [[] for _ in ids]
    for nodes in node_parts(workspace, {name: NODES[name] for name in ("fragment", *names)}):
        segments = looked_up(nodes["fragment"], lookup)
        for segment, parts in zip(ids, found, strict=True):
            rows = np.flatnonzero(segments == segment)
            parts.append({name: nodes[name][rows] for name in names})
    return [
        _large_segment(int(segment), int(sizes[segment]), concatenated(parts, dict.fromkeys(names, np.uint32)))
        for segment, parts in zip(ids, found, strict=True)
    ]


def _large_segment(segment: int, voxels: int, bounds: Table) -> LargeSegment:
    """Return a segment, given the bounding boxes of its fragments."""
    begin = [int(bounds[f"min_{axis}"].min()) for axis in "zyx"]
    end = [int(bounds[f"max_{axis}"].max()) + 1 for axis in "zyx"]
    return LargeSegment(
        segment, voxels, len(bounds["min_z"]), Roi(begin, [e - b for b, e in zip(begin, end, strict=True)])
    )


def shape_of(run: ReportedRun, large: LargeSegment) -> tuple[NDArray[np.bool_], list[float]] | None:
    """Return the voxels of a segment `(z, y, x)` in its bounding box, and the voxel size in nm (z, y, x).

    They come from the finest level of the pyramid in which the box is small. None without a segmentation.
    """
    level, scale = _level_for(run.scales, large.box)
    volume = run.level(level)
    if volume is None:
        return None
    begin = [int(b) // s for b, s in zip(large.box.begin, scale, strict=True)]
    end = [min(-(-int(e) // s), n) for e, s, n in zip(large.box.end, scale, volume.shape, strict=True)]
    labels = volume.read(Roi(begin, [e - b for b, e in zip(begin, end, strict=True)]))
    return labels == large.segment, [size * s for size, s in zip(run.plan.voxel_size_nm, scale, strict=True)]


def _level_for(scales: list[Triple], box: Roi) -> tuple[int, Triple]:
    for level, scale in enumerate(scales):
        voxels = np.prod([-(-int(n) // s) + 1 for n, s in zip(box.shape, scale, strict=True)])
        if voxels <= _SHAPE_VOXELS or level == len(scales) - 1:
            return level, scale
    raise AssertionError("the last level is always returned")
