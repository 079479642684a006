"""The layers of a viewer, their chunks at any version, and the cuts of the merge tree. Safe in several threads.

A version is a part of the address of a layer, because a browser keeps data that it has read from an address. It is `gN`
during a run (N grows when blocks are done). Of a segmentation it contains threshold, smallest segment, and a word for
the edits by hand.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.agglomeration.names import MERGE_TREE
from neuroseg.agglomeration.partition import NO_CONSTRAINTS, Constraints
from neuroseg.errors import InputError
from neuroseg.evaluation.boxes import compare
from neuroseg.evaluation.evaluate import overlap_of
from neuroseg.evaluation.sweep import THRESHOLDS
from neuroseg.execution.block import ledger_of
from neuroseg.geometry import parse_roi, whole
from neuroseg.runs.edits import fitting
from neuroseg.tables import Table
from neuroseg.viewer.cuts import Cut, Tree
from neuroseg.viewer.hand_edits import LAYER as EDITS_LAYER
from neuroseg.viewer.hand_edits import HandEdits
from neuroseg.viewer.initial_state import annotation_layer, initial_state
from neuroseg.viewer.layers import Shown, as_volume, has_tree, layers_at, stamp_of
from neuroseg.viewer.meshes import encoded_mesh
from neuroseg.viewer.places import places_of
from neuroseg.viewer.precomputed import description, encoded, region_in
from neuroseg.viewer.sampled_levels import Level, levels_of, read_level
from neuroseg.viewer.segment_colours import Colours, colours_of_numbers, layer_colours

# Chunks of fragments that are kept, because a change of the threshold asks for the same ones again: 256 MiB.
_KEPT_CHUNKS = 1024
_KEPT_CUTS = 8
_WITH_MESHES = ("fragments", "segmentation")
_VERSION = re.compile(r"t(?P<threshold>[0-9.e+-]+)-m(?P<size>\d+)(-e\w+)?(-[0-9a-f]+)?")
# Layers that no run changes.
_CONSTANT = ("raw", "truth")


class Session:
    """The layers of one address and of ground truth."""

    def __init__(self, address: str, truth: str | None) -> None:
        self.address, self.truth = address, truth
        self.shown: Shown = layers_at(address, truth)
        self.stamp = stamp_of(self.shown)
        self._lock = threading.RLock()
        self._rows = lru_cache(_KEPT_CHUNKS)(self._rows_at)
        self._cut = lru_cache(_KEPT_CUTS)(self._cut_with_edits)
        self._curve = lru_cache(1)(self._curve_with_edits)
        self.edits = self._hand_edits()

    @cached_property
    def tree(self) -> Tree | None:
        """The merge tree. None if there is none yet, or if the fragments were joined by another method."""
        workspace, plan = self.shown.workspace, self.shown.plan
        if workspace is None or plan is None or plan.agglomeration != MERGE_TREE:
            return None
        return Tree(workspace, plan.small) if has_tree(workspace) else None

    def _hand_edits(self) -> HandEdits | None:
        """Return the edits of the workspace. None without a merge tree."""
        workspace, plan = self.shown.workspace, self.shown.plan
        if workspace is None or plan is None or self.tree is None:
            return None
        return HandEdits(workspace, plan, self.shown.layers["fragments"], self.tree)

    @cached_property
    def contingency(self) -> Table | None:
        """The common voxels of fragments and truth. None without truth."""
        if "truth" not in self.shown.layers or self.tree is None:
            return None
        fragments, truth = (as_volume(self.shown.layers[name]) for name in ("fragments", "truth"))
        roi = None if self.shown.plan is None else self.shown.plan.roi
        (table,) = compare([fragments], truth, overlap_of(fragments, truth, roi))
        return table if len(table["count"]) else None

    def levels(self, name: str) -> list[Level]:
        """Return the levels of a layer."""
        return levels_of(self.shown.layers[name])

    def info(self, name: str) -> dict[str, Any]:
        """Return the description of a layer. Raises KeyError for an unknown name."""
        described = description(self.shown.layers[name], self.levels(name))
        return described | ({"mesh": "mesh"} if name in _WITH_MESHES and self.tree is not None else {})

    @property
    def workspace_path(self) -> Path | None:
        """The folder of the workspace. None for a volume."""
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
        running = self.shown.workspace is not None and self.shown.workspace.is_in_use()
        generation = self.generation() if running else 0
        versions = {name: f"g{0 if name in _CONSTANT else generation}" for name in layers}
        versions |= {} if cut is None else {"segmentation": self._version(cut)}
        return {
            "state": initial_state(self.shown.title, layers.values(), versions, *self._first_view()),
            "places": annotation_layer(self.places_name, next(iter(layers.values()))),
            "edits": annotation_layer(EDITS_LAYER, next(iter(layers.values()))),
            "threshold": None if cut is None else cut.threshold,
            "min_size": 0 if cut is None else cut.min_size_voxels,
            "is_workspace": self.workspace_path is not None,
            "stamp": self.stamp,
        }

    def _first_view(self) -> tuple[Roi, list[float]]:
        """Return the box to begin with, and a place in it: around the fragments if there are any, else the region."""
        first, plan = next(iter(self.shown.layers.values())), self.shown.plan
        region = whole(first.shape) if plan is None else parse_roi(plan.roi, plan.shape)
        around = None if self.tree is None else self.tree.extent()
        extent = around or region
        middle = [float(begin) + size / 2 for begin, size in zip(extent.begin, extent.shape, strict=True)]
        # The middle of a sparse volume may be empty.
        return extent, middle if around is None or self.tree is None else self.tree.near(middle)

    def is_outdated(self) -> bool:
        """Return whether there is something else to show now: other layers, another tree or segmentation."""
        return stamp_of(layers_at(self.address, self.truth)) != self.stamp

    def generation(self) -> int:
        """Return the number of done blocks: what a browser has read before it grew may be outdated."""
        workspace, plan = self.shown.workspace, self.shown.plan
        if workspace is None or plan is None:
            return 0
        try:
            return sum(len(ledger_of(workspace, stage).done()) for stage in plan.stages(workspace))
        except InputError:  # a mask or a model was moved, which a viewer does not need
            return 0

    def progress(self) -> dict[str, Any]:
        """Return whether a run is going on, and then the generation."""
        running = self.shown.workspace is not None and self.shown.workspace.is_in_use()
        generation = self.generation() if running else 0
        return {"running": running, "generation": generation, "edits": self._edits_key()}

    def cut(self, threshold: float, min_size_voxels: int) -> Cut:
        """Return the segmentation at a threshold, with the edits of now. Raises KeyError without a merge tree.

        Raises InputError if the edits do not fit the fragments.
        """
        with self._lock:  # otherwise several threads would compute the same one
            return self._cut(threshold, min_size_voxels, self._edits_key())

    def _cut_with_edits(self, threshold: float, min_size_voxels: int, edits: str) -> Cut:
        """Return a cut. `edits` is the key of its edits in the cache."""
        tree = self._known_tree()
        return tree.cut(threshold, min_size_voxels, self._constraints())

    def _constraints(self) -> Constraints:
        return NO_CONSTRAINTS if self.edits is None else self.edits.fitting().constraints

    def _edits_key(self) -> str:
        return "none" if self.edits is None else self.edits.now().key

    def _version(self, cut: Cut) -> str:
        """Return the version of a cut with the edits of now."""
        return f"{cut.version}-e{self._edits_key()}-{self.stamp}"

    def colours(self) -> dict[str, Colours]:
        """Return the colours of fragments, segments and true objects by layer, as in the figures."""
        workspace, plan, tree = self.shown.workspace, self.shown.plan, self.tree
        if workspace is None or plan is None or tree is None:
            return {"segmentation": colours_of_numbers()}
        with self._lock:
            contingency = self.contingency
        constraints = fitting(workspace, plan, plan.edits, tree.fragments).constraints
        return layer_colours(tree, tree.cut(plan.threshold, plan.min_size_voxels, constraints), contingency)

    def described_edits(self) -> dict[str, Any]:
        """Return the edits, and whether the segmentation on the disk has them. There are none without a merge tree."""
        return {"edits": [], "written": True, "key": "none"} if self.edits is None else self.edits.described()

    def add_edit(
        self, kind: str, positions: Sequence[Sequence[float]], segments: Sequence[int | None], shown: tuple[float, int]
    ) -> None:
        """Store an edit (hand_edits.py). `shown`: threshold and minimum size at which the segments were clicked."""
        if self.edits is None:
            raise KeyError("no merge tree")
        self.edits.add(kind, positions, segments, self.cut(*shown))

    def described_cut(self, threshold: float, min_size_voxels: int, selected: Sequence[int] = ()) -> dict[str, Any]:
        """Return the version of a cut, its statistics, and the segments that contain the `selected` ones."""
        cut, tree = self.cut(threshold, min_size_voxels), self._known_tree()
        rows = tree.rows_of(np.array(selected, np.uint64))
        known = np.where(rows >= 0, cut.names[rows], 0)
        return {
            "version": self._version(cut),
            "selected": [str(name) for name in np.unique(known[known > 0]).tolist()],
            **self._statistics(cut),
        }

    def places(self) -> dict[str, Any]:
        """Return the errors or suspects to inspect (places.py). Empty for a volume."""
        first = next(iter(self.shown.layers.values()))
        if self.shown.workspace is None:
            return {"places": []}
        return places_of(self.address, self.truth, first)

    def curve(self) -> list[dict[str, Any]]:
        """Return the statistics of cuts from threshold 0.02 to 0.98, without a minimum size."""
        return self._curve(self._edits_key())

    def _curve_with_edits(self, edits: str) -> list[dict[str, Any]]:
        """Return the curve. `edits` is the key of its edits in the cache."""
        tree, constraints = self._known_tree(), self._constraints()
        return [self._statistics(tree.cut(threshold, 0, constraints)) for threshold in THRESHOLDS.tolist()]

    def _statistics(self, cut: Cut) -> dict[str, Any]:
        with self._lock:
            contingency = self.contingency
        scores = {} if contingency is None else self._known_tree().scores(cut, contingency)
        described = {"threshold": cut.threshold, "segments": cut.segments, "largest_share": cut.largest_share}
        return described | scores

    def _known_tree(self) -> Tree:
        """Return the merge tree. Raises KeyError if there is none."""
        with self._lock:
            tree = self.tree
        if tree is None:
            raise KeyError("no merge tree")
        return tree

    def mesh(self, name: str, version: str, segment: int) -> bytes:
        """Return the mesh of a segment, or of a fragment. Raises KeyError for another layer."""
        tree, found = self._known_tree(), _VERSION.fullmatch(version)
        if name not in _WITH_MESHES:
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
            rows = self._rows(number, box)
            return encoded(np.where(rows >= 0, cut.names[rows], np.uint64(0)), layer)
        return encoded(read_level(layer, level, roi), layer)

    def _rows_at(self, number: int, box: str) -> NDArray[np.int32]:
        """Return the rows of the fragments of a chunk in the table of nodes."""
        fragments, level = self.shown.layers["fragments"], self.levels("fragments")[number]
        roi = region_in(box, level)
        assert roi is not None
        return self._known_tree().rows_of(read_level(fragments, level, roi))
