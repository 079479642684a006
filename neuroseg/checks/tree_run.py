"""Open a finished workspace with a merge tree: its labels, its fragments and the columns of its tables."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.agglomeration.names import MERGE_TREE
from neuroseg.checks.score import opened_labels
from neuroseg.errors import InputError
from neuroseg.geometry import parse_roi
from neuroseg.runs.finished import is_finished, require_whole_artifact
from neuroseg.runs.plan import Plan, read_plan
from neuroseg.segmentation.segments import segments_table
from neuroseg.storage.arrays import open_array
from neuroseg.storage.merges import has_merges, read_nodes, read_tree
from neuroseg.storage.parts import map_lookup
from neuroseg.storage.workspace import Workspace, named_workspace
from neuroseg.tables import TREE, Table, looked_up
from neuroseg.volumes.axes import PLAIN
from neuroseg.volumes.mask import ReadMask
from neuroseg.volumes.volume import Volume


@dataclass(frozen=True)
class TreeRun:
    """A finished workspace, its labels and fragments, and the columns of its tables."""

    workspace: Workspace
    plan: Plan
    labels: Volume
    fragments: Volume
    mask: ReadMask | None
    nodes: Table
    tree: Table
    segment_of: NDArray[np.uint64]  # of each row of nodes
    segments: Table  # of segmentation/segments.py

    @property
    def roi(self) -> Roi:
        """The segmented region in voxels."""
        return parse_roi(self.plan.roi, self.plan.shape)

    def rows_of(self, fragments: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the row of each fragment in the table of nodes."""
        rows: NDArray[np.int64] = np.searchsorted(self.nodes["fragment"], fragments).astype(np.int64)
        return rows


def tree_run(address: str) -> TreeRun:
    """Return a run with a merge tree. Raises InputError if there is none, or if its segmentation is not finished."""
    workspace = named_workspace(address)
    if workspace is None:
        raise InputError(
            f"suspects without ground truth need the merge tree of a workspace, and {address} is not a workspace",
            hint="give a workspace (.neuroseg), or ground truth with --truth",
        )
    plan = read_plan(workspace)
    if plan.agglomeration != MERGE_TREE:
        raise InputError(
            f"--agglomeration {plan.agglomeration} computes one segmentation, not a merge tree with scores",
            hint="give ground truth with --truth, or compute a tree first: "
            f"neuroseg segment {workspace.path} --agglomeration tree --restart agglomeration",
        )
    labels = opened_labels(address)[1]
    if not is_finished(workspace, plan):
        raise InputError(
            f"the segmentation of {address} is not finished", hint=f"finish it: neuroseg segment {workspace.path}"
        )
    if not (workspace.fragments.exists() and has_merges(workspace) and workspace.lookup.exists()):
        raise InputError(
            f"{workspace.path} has no fragments or no merge tree",
            hint=f"recompute them: neuroseg segment {workspace.path} --restart fragments, or if the affinities were "
            f"removed: neuroseg run {workspace.path} --restart affinities",
        )
    require_whole_artifact(workspace, plan, workspace.fragments.name)
    source, lookup = plan.mask_source(plan.mask), map_lookup(workspace.lookup)
    nodes = read_nodes(workspace)
    return TreeRun(
        workspace, plan, labels, fragments_of(workspace, labels), source.open() if source else None, nodes,
        read_tree(workspace, {name: TREE[name] for name in ("score", "u", "v")}),
        looked_up(nodes["fragment"], lookup), segments_table(nodes, lookup),
    )  # fmt: skip


def fragments_of(workspace: Workspace, labels: Volume) -> Volume:
    """Return the fragments of a workspace as a volume at the position of its labels."""
    array = open_array(workspace.fragments)
    return replace(labels, path=str(workspace.fragments), array=array, layout=PLAIN)
