"""What one viewer shows: layers, their chunks at any version, and the cuts of the merge tree. Safe in several threads.

A version is a part of the address of a layer, because a browser keeps what it has read from an address. It is `gN`
while a run goes on (N grows when blocks are done) and contains threshold and smallest segment for the segmentation.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.agglomeration.names import MERGE_TREE
from neuroseg.evaluation.boxes import compare
from neuroseg.evaluation.evaluate import overlap_of
from neuroseg.evaluation.sweep import THRESHOLDS
from neuroseg.execution.block import ledger_of
from neuroseg.tables import Table
from neuroseg.viewer.cuts import Cut, Tree
from neuroseg.viewer.initial_state import annotation_layer, initial_state
from neuroseg.viewer.layers import Shown, as_volume, layers_at
from neuroseg.viewer.meshes import encoded_mesh
from neuroseg.viewer.places import places_of
from neuroseg.viewer.precomputed import description, encoded, region_in
from neuroseg.viewer.sampled_levels import Level, levels_of, read_level

# Chunks of fragments that are kept, because a change of the threshold asks for the same ones again: 256 MiB.
_KEPT_CHUNKS = 1024
_KEPT_CUTS = 16
_WITH_MESHES = ("fragments", "segmentation")
_VERSION = re.compile(r"t(?P<threshold>[0-9.e+-]+)-m(?P<size>\d+)(-g\d+)?")


class Session:
    """The layers of one address and of ground truth."""

    def __init__(self, address: str, truth: str | None) -> None:
        self.address, self.truth = address, truth
        self.shown: Shown = layers_at(address, truth)
        self._lock = threading.Lock()
        self._rows = lru_cache(_KEPT_CHUNKS)(self._rows_at)
        self.cut = lru_cache(_KEPT_CUTS)(self._cut)

    @cached_property
    def tree(self) -> Tree | None:
        """The merge tree. None if there is none yet, or if the fragments were joined by another method."""
        workspace, plan = self.shown.workspace, self.shown.plan
        if workspace is None or plan is None or plan.agglomeration != MERGE_TREE:
            return None
        has_all = "fragments" in self.shown.layers and workspace.tree.is_file() and workspace.all_nodes.is_file()
        return Tree(workspace, plan.small) if has_all else None

    @cached_property
    def contingency(self) -> Table | None:
        """The common voxels of fragments and truth. None without truth."""
        if "truth" not in self.shown.layers or self.tree is None:
            return None
        fragments, truth = (as_volume(self.shown.layers[name]) for name in ("fragments", "truth"))
        (table,) = compare([fragments], truth, overlap_of(fragments, truth, None))
        return table

    def levels(self, name: str) -> list[Level]:
        """Return the levels of a layer."""
        return levels_of(self.shown.layers[name])

    def info(self, name: str) -> dict[str, Any]:
        """Return the description of a layer. Raises KeyError for an unknown name."""
        described = description(self.shown.layers[name], self.levels(name))
        return described | ({"mesh": "mesh"} if name in _WITH_MESHES and self.tree is not None else {})

    @property
    def workspace_path(self) -> Path | None:
        """The folder of the workspace. None for a volume, and if the artifacts are on a server."""
        workspace = self.shown.workspace
        return None if workspace is None else workspace.path

    @property
    def places_name(self) -> str:
        """The name of the layer with the places to inspect."""
        return "suspects" if self.truth is None else "errors"

    def beginning(self) -> dict[str, Any]:
        """Return what the page begins with: the state of neuroglancer, and the threshold of the run."""
        plan, layers = self.shown.plan, self.shown.layers
        cut = None if plan is None or self.tree is None else self.cut(plan.threshold, plan.min_size_voxels)
        versions = dict.fromkeys(layers, f"g{self.generation()}") | (
            {} if cut is None else {"segmentation": cut.version}
        )
        return {
            "state": initial_state(self.shown.title, layers.values(), versions),
            "places": annotation_layer(self.places_name, next(iter(layers.values()))),
            "threshold": None if cut is None else cut.threshold,
            "min_size": 0 if cut is None else cut.min_size_voxels,
            "can_use": self.workspace_path is not None,
            "running": self.shown.workspace is not None and self.shown.workspace.is_in_use(),
        }

    def generation(self) -> int:
        """Return the number of done blocks: what a browser has read before it grew may be outdated."""
        workspace, plan = self.shown.workspace, self.shown.plan
        if workspace is None or plan is None:
            return 0
        return sum(len(ledger_of(workspace, stage).done()) for stage in plan.stages(workspace))

    def progress(self) -> dict[str, Any]:
        """Return the generation, whether a run is going on, and whether there is more to show than at the beginning."""
        running = self.shown.workspace is not None and self.shown.workspace.is_in_use()
        newest = Session(self.address, self.truth)
        more = newest.shown.layers.keys() != self.shown.layers.keys() or (newest.tree is None) != (self.tree is None)
        return {"generation": self.generation(), "running": running, "more": more}

    def described_cut(self, threshold: float, min_size_voxels: int, selected: Sequence[int] = ()) -> dict[str, Any]:
        """Return the version of a cut, its statistics, and the segments that contain the `selected` ones."""
        cut, tree = self.cut(threshold, min_size_voxels), self.tree
        assert tree is not None
        rows = tree.rows_of(np.array(selected, np.uint64))
        known = np.where(rows >= 0, cut.names[rows], 0)
        scores = {} if self.contingency is None else tree.scores(cut, self.contingency)
        return {
            "version": cut.version,
            "threshold": threshold,
            "segments": cut.segments,
            "largest_share": cut.largest_share,
            "selected": [str(name) for name in np.unique(known[known > 0]).tolist()],
            **scores,
        }

    def places(self) -> dict[str, Any]:
        """Return the errors or suspects to inspect (places.py). Empty for a volume."""
        first = next(iter(self.shown.layers.values()))
        if self.shown.workspace is None:
            return {"places": []}
        return places_of(self.address, self.truth, first)

    def curve(self) -> list[dict[str, Any]]:
        """Return the statistics of cuts from threshold 0.02 to 0.98, without small segments treated apart."""
        return [self.described_cut(threshold, 0) for threshold in THRESHOLDS.tolist()]

    def _cut(self, threshold: float, min_size_voxels: int) -> Cut:
        """Return the segmentation at a threshold. Raises KeyError without a merge tree."""
        with self._lock:
            tree = self.tree
        if tree is None:
            raise KeyError("no merge tree")
        return tree.cut(threshold, min_size_voxels)

    def mesh(self, name: str, version: str, segment: int) -> bytes:
        """Return the mesh of a segment, or of a fragment. Raises KeyError for another layer."""
        tree, found = self.tree, _VERSION.fullmatch(version)
        if tree is None or name not in _WITH_MESHES:
            raise KeyError(name)
        cut = self.cut(float(found["threshold"]), int(found["size"])) if found and name == "segmentation" else None
        names = tree.fragments if cut is None else cut.names
        return encoded_mesh(self.shown.layers["fragments"], self.levels("fragments"), tree, names, segment)

    def chunk(self, name: str, version: str, number: int, box: str) -> bytes:
        """Return the bytes of a chunk. Raises KeyError for a name, level or region that does not exist."""
        layer, levels = self.shown.layers[name], self.levels(name)
        level = dict(enumerate(levels))[number]
        roi = region_in(box, level)
        if roi is None:
            raise KeyError(box)
        if name == "segmentation" and (found := _VERSION.fullmatch(version)):
            cut = self.cut(float(found["threshold"]), int(found["size"]))
            rows = self._rows(number, box, version.partition("-g")[2])
            return encoded(np.where(rows >= 0, cut.names[rows], np.uint64(0)), layer)
        return encoded(read_level(layer, level, roi), layer)

    def _rows_at(self, number: int, box: str, generation: str) -> NDArray[np.int32]:
        """Return the rows of the fragments of a chunk in the table of nodes."""
        fragments, level = self.shown.layers["fragments"], self.levels("fragments")[number]
        roi, tree = region_in(box, level), self.tree
        assert roi is not None
        assert tree is not None
        return tree.rows_of(read_level(fragments, level, roi))
