"""The plan of a run: all options resolved. It is stored in run.yaml. Head and workers build the same stages from it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from neuroseg import __version__
from neuroseg.affinities.stage import AffinitiesStage, SectionsStage
from neuroseg.affinities.turned_windows import NO_AUGMENTATION, parse_augmentation
from neuroseg.agglomeration.constraints import Edit
from neuroseg.agglomeration.lookup_stage import LookupStage
from neuroseg.agglomeration.names import AGGLOMERATIONS, MERGE_TREE
from neuroseg.agglomeration.partition_stage import PartitionStage
from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.agglomeration.stage import AgglomerationStage, agglomeration_stages
from neuroseg.blocks import Lattice
from neuroseg.configuration import Section, validated
from neuroseg.edges.stage import EdgesStage
from neuroseg.errors import InputError, unknown_name
from neuroseg.execution.block import BLOCK_TIMEOUT_S
from neuroseg.fragments.settings import DISTANCE_BASINS, FRAGMENTS, MUTEX_WATERSHED, BasinSettings
from neuroseg.fragments.stage import CutFragmentsStage, FragmentsStage
from neuroseg.geometry import Nanometres, Triple, contact_channels, long_range_channels, parse_roi
from neuroseg.runs.options import Options
from neuroseg.segmentation.stage import ALGORITHM, PyramidStage, RelabelStage, pyramid_stages
from neuroseg.stage import Stage
from neuroseg.storage.labels import unfinished_name
from neuroseg.storage.table_memory import TableMemory
from neuroseg.storage.workspace import Workspace
from neuroseg.volumes.affinity_source import AffinitySource
from neuroseg.volumes.content import Content
from neuroseg.volumes.input_paths import located, relative_paths, require_exists
from neuroseg.volumes.mask import MaskSource
from neuroseg.volumes.placement import CORNER, Grid
from neuroseg.volumes.raw import RawSource
from neuroseg.volumes.selection import WHOLE_FILE, Selection

# Fragment ids are voxel indices in signed 64 bits. No region needs more blocks than this.
MOST_VOXELS, MOST_BLOCKS = 2**63 - 1, 10**8
_KINDS = ("raw", "affinities", "boundaries")
PREDICTION = ("sections", "affinities")
SEGMENTATION = ("fragments", "edges", "agglomeration", "lookup", "relabel", "pyramid")


class MaskPlan(Section):
    """The path of a mask, and a hash of its content."""

    path: str
    identity: str
    content: Content | None = None  # None in workspaces of earlier versions


class Plan(Section):
    """A run with all options resolved. `kind` is the content of `path`: raw, affinities or boundaries."""

    kind: str
    path: str
    level: int
    shape: Triple
    voxel_size_nm: tuple[float, float, float]
    offset_nm: tuple[float, float, float]
    offset_convention: str = CORNER  # or that of centres, or UNKNOWN (volumes/placement.py)
    corner_nm: tuple[float, float, float] | None = None  # the offset as plain arrays state it; None: offset_nm
    selection: Selection = WHOLE_FILE
    value_range: tuple[float, float] | None
    normalise: str
    input_identity: str
    input_content: Content | None = None  # None in workspaces of earlier versions
    roi: str
    blocks: Triple
    model: str | None
    model_identity: str | None
    tile_voxels: Triple | None
    blend: str
    tta: str = str(NO_AUGMENTATION)
    predicted_mask: MaskPlan | None
    predicted_blocks: Triple
    mask: MaskPlan | None
    mask_boundary: float
    device: str
    device_identity: dict[str, str]
    offsets: tuple[Triple, ...]
    fragments: str = DISTANCE_BASINS
    per_section: bool
    long_range: bool = False
    scoring: str
    agglomeration: str = MERGE_TREE
    threshold: float
    min_size_voxels: int
    small: str
    edits: tuple[Edit, ...] = ()
    executor: str
    block_timeout_s: float = BLOCK_TIMEOUT_S
    memory_bytes: int | None = None
    workers: int
    prediction_workers: int

    @property
    def lattice(self) -> Lattice:
        """The blocks in the region, without those outside the mask."""
        mask = self.mask_source(self.mask)
        wanted = mask.touching() if mask else None
        return Lattice(self.shape, self.blocks, parse_roi(self.roi, self.shape), wanted)

    @property
    def _predicted_lattice(self) -> Lattice:
        """The blocks of the prediction."""
        return Lattice(self.shape, self.predicted_blocks, parse_roi(self.roi, self.shape))

    def mask_source(self, mask: MaskPlan | None) -> MaskSource | None:
        """Return a mask that is read on the grid of the run's volume. None without a mask."""
        if mask is None:
            return None
        require_exists(mask.path, "mask", "pass its new path with --mask NEW to neuroseg run, predict or segment")
        return MaskSource(
            mask.path, self.voxel_size_nm, self.offset_nm, mask.identity, convention=self.offset_convention
        )

    @property
    def grid(self) -> Grid:
        """Voxel size and offset of the run's volume."""
        return Grid(self.voxel_size_nm, self.offset_nm, self.offset_convention)

    @property
    def _corner_nm(self) -> Nanometres:
        return self.offset_nm if self.corner_nm is None else self.corner_nm

    def affinities_stage(self, workspace: Workspace) -> AffinitiesStage:
        """Return the stage that predicts. Raises InputError if the run does not predict its affinities."""
        if self.kind != "raw" or self.model is None or self.model_identity is None or self.tile_voxels is None:
            raise InputError(f"{workspace.path} has no raw volume to predict from, only the {self.kind} {self.path}")
        return AffinitiesStage(
            workspace, self.raw_source(), self.normalise, self.model, self.model_identity, self.device,
            self.device_identity, self._predicted_lattice, self.tile_voxels, self.blend,
            parse_augmentation(self.tta), self.mask_source(self.predicted_mask),
        )  # fmt: skip

    def raw_source(self) -> RawSource:
        """Return the raw volume that prediction reads."""
        return RawSource(
            self.path, self.level, self.voxel_size_nm, self._corner_nm, self.value_range, self.input_identity,
            self.selection,
        )  # fmt: skip

    def prediction_stages(self, workspace: Workspace) -> list[Stage]:
        """Return the stages that predict affinities. Return an empty list if the affinities are given."""
        if self.kind != "raw":
            return []
        counted = (
            [SectionsStage(workspace, self.raw_source(), self._predicted_lattice)]
            if self.normalise == "sections"
            else []
        )
        return [*counted, self.affinities_stage(workspace)]

    def affinity_source(self, workspace: Workspace) -> AffinitySource:
        """Return the affinities that the later stages read."""
        raw = self.kind == "raw"
        identity = hash_of(self.affinities_stage(workspace).identity) if raw else self.input_identity
        path = str(workspace.affinities) if raw else self.path
        kind = "affinities" if raw else self.kind
        return AffinitySource(
            path, kind, self.offsets, self.shape, self.voxel_size_nm, self._corner_nm, identity,
            selection=WHOLE_FILE if raw else self.selection,
        )  # fmt: skip

    def segmentation_stages(self, workspace: Workspace) -> list[Stage]:
        """Return the stages after prediction, in order. Each contains the hash of the stage before it."""
        fragments = self._fragments_stage(workspace)
        edges = EdgesStage(
            workspace,
            self._links(workspace, long_range=self.long_range),
            self.lattice,
            hash_of(fragments.identity),
            parse_scoring(self.scoring).every_contact,
            isinstance(fragments, FragmentsStage),
        )
        trees = self._agglomeration_stages(workspace, hash_of(edges.identity))
        lookup = LookupStage(
            workspace,
            self.lattice,
            tuple(name for stage in trees for name in stage.outputs if "/open_" not in name),
            hash_of(trees[-1].identity),
            self.threshold,
            self.min_size_voxels,
            self.small,
            self._memory,
            self.edits,
        )
        return [fragments, edges, *trees, lookup, *self.view_stages(workspace, hash_of(lookup.identity))]

    def _fragments_stage(self, workspace: Workspace) -> FragmentsStage | CutFragmentsStage:
        """Return the stage that computes fragments: distance basins, or a method that cuts them at block faces."""
        mask = self.mask_source(self.mask)
        if self.fragments != DISTANCE_BASINS:
            source = self._links(workspace, long_range=self.fragments == MUTEX_WATERSHED)
            return CutFragmentsStage(workspace, source, source.identity, self.fragments, self.lattice, mask)
        source = self._links(workspace, long_range=False)
        settings = BasinSettings(self.voxel_size_nm, per_section=self.per_section, mask_boundary=self.mask_boundary)
        return FragmentsStage(workspace, source, source.identity, settings, self.lattice, mask)

    def _agglomeration_stages(
        self, workspace: Workspace, upstream: str
    ) -> list[AgglomerationStage] | list[PartitionStage]:
        scoring = parse_scoring(self.scoring)
        source = self._links(workspace, long_range=self.long_range)
        if self.agglomeration == MERGE_TREE:
            return agglomeration_stages(
                workspace, self.lattice, upstream, scoring, source.offsets, self._memory, long_range=self.long_range
            )
        direct = self._links(workspace, long_range=False)
        return [
            PartitionStage(
                workspace, self.lattice, upstream, scoring, self.long_range, self.agglomeration, self.threshold, direct
            )
        ]

    @property
    def _memory(self) -> TableMemory:
        """The memory for tables of the workers of a machine. On a cluster, each job has one worker."""
        return TableMemory(self.memory_bytes, self.workers if self.executor == "local" else 1)

    def _links(self, workspace: Workspace, *, long_range: bool) -> AffinitySource:
        """Return the channels of direct neighbours. With `long_range`, the long-range channels follow."""
        direct = contact_channels(self.offsets)
        far = long_range_channels(self.offsets) if long_range else ()
        return self.affinity_source(workspace).only([*direct, *far])

    def view_stages(self, workspace: Workspace, lookup: str) -> list[RelabelStage | PyramidStage]:
        """Return relabel and pyramid. Other programs do not see what they write until it is published."""
        aside = unfinished_name(workspace, hash_of({"algorithm": ALGORITHM, "lookup": lookup, "roi": self.roi}))
        relabel = RelabelStage(workspace, aside, self.lattice, lookup, self.voxel_size_nm, self._corner_nm)
        return [relabel, *pyramid_stages(relabel, hash_of(relabel.identity))]

    def stages(self, workspace: Workspace) -> list[Stage]:
        """Return all stages of the run in order, with prediction if the run predicts."""
        return [*self.prediction_stages(workspace), *self.segmentation_stages(workspace)]

    def stage(self, workspace: Workspace, name: str) -> Stage:
        """Return one stage by name. Raises InputError for an unknown name."""
        stages = {stage.name: stage for stage in self.stages(workspace)}
        if name not in stages:
            raise unknown_name("stage", name, stages)
        return stages[name]


def hash_of(identity: Any) -> str:
    """Return a short hash of a stage's identity."""
    return hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()[:16]


def read_plan(workspace: Workspace) -> Plan:
    """Return the plan in a workspace's run.yaml, with the current paths of its inputs (volumes/input_paths.py)."""
    where = workspace.path / "run.yaml"
    content = workspace.read_run()
    plan = validated(content["plan"], Plan, str(where))
    if wrong := _impossible(plan):
        raise InputError(
            f"{where} is damaged: {wrong}",
            hint="correct the value, or remove the file and run the complete command of this run again",
        )
    find = _finder(content, workspace)
    found: dict[str, Any] = {"path": find(plan.path), "model": find(plan.model) if plan.model else None}
    for name in ("mask", "predicted_mask"):
        if mask := getattr(plan, name):
            found[name] = mask.model_copy(update={"path": find(mask.path)})
    return plan.model_copy(update=found)


def _impossible(plan: Plan) -> str:
    """Return a description of the first invalid value of a plan, or an empty string."""
    triples = {"shape": plan.shape, "blocks": plan.blocks, "predicted_blocks": plan.predicted_blocks}
    for key, value in {**triples, "tile_voxels": plan.tile_voxels or (1, 1, 1)}.items():
        if min(value) < 1 or math.prod(value) > MOST_VOXELS:
            return f"{key} = {list(value)}, expected three positive numbers with a product below 2^63"
    for key, blocks in (("blocks", plan.blocks), ("predicted_blocks", plan.predicted_blocks)):
        if Lattice(plan.shape, blocks, parse_roi(plan.roi, plan.shape)).touching > MOST_BLOCKS:
            return f"{key} = {list(blocks)}, which cuts the region {plan.roi} into more than {MOST_BLOCKS} blocks"
    if not all(0 < edge < math.inf for edge in plan.voxel_size_nm):
        return f"voxel_size_nm = {list(plan.voxel_size_nm)}, expected three positive lengths"
    if not all(map(math.isfinite, (*plan.offset_nm, *(plan.value_range or ()), plan.threshold, plan.mask_boundary))):
        return "offset_nm, value_range, threshold or mask_boundary is not a finite number"
    counts = {"level": plan.level, "workers": plan.workers, "prediction_workers": plan.prediction_workers}
    for key, count in {**counts, "min_size_voxels": plan.min_size_voxels}.items():
        if not 0 <= count <= MOST_VOXELS:
            return f"{key} = {count}, expected a number from 0 to 2^63 - 1"
    if not plan.block_timeout_s > 0:
        return f"block_timeout_s = {plan.block_timeout_s}, expected more than 0"
    words = {"kind": (plan.kind, _KINDS), "fragments": (plan.fragments, FRAGMENTS)}
    for key, (word, valid) in {**words, "agglomeration": (plan.agglomeration, AGGLOMERATIONS)}.items():
        if word not in valid:
            return f"{key} = {word!r} (valid: {', '.join(valid)})"
    return ""


def read_options(workspace: Workspace) -> Options:
    """Return the options in a workspace's run.yaml, with the current paths."""
    content = workspace.read_run()
    options = validated(content.get("options", {}), Options, str(workspace.path / "run.yaml"))
    find = _finder(content, workspace)
    return options.model_copy(update={name: find(path) for name, path in options.paths().items()})


def write_plan(workspace: Workspace, plan: Plan, options: Options) -> None:
    """Write run.yaml: version, given options, resolved plan, and input paths relative to the workspace."""
    given = options.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    masks = [mask.path for mask in (plan.mask, plan.predicted_mask) if mask]
    relative = relative_paths([plan.path, plan.model, *masks, *options.paths().values()], workspace.path)
    content = {"neuroseg": __version__, "options": given, "plan": plan.model_dump(mode="json")}
    workspace.write_run({**content, "relative_paths": relative})


def _finder(content: Mapping[str, Any], workspace: Workspace) -> Callable[[str], str]:
    """Return a function that returns the current path of an input in a run.yaml."""
    hints = content.get("relative_paths")
    known = {str(path): str(hint) for path, hint in hints.items()} if isinstance(hints, dict) else {}
    return lambda address: located(address, known, workspace.path)
