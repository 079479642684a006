"""Options -> plan: check all options, and complete them from defaults, the model's card and the input's metadata."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from neuroseg.agglomeration.names import MERGE_TREE
from neuroseg.errors import InputError, RunRefusedError
from neuroseg.execution.block import BLOCK_TIMEOUT_S
from neuroseg.execution.cluster.site import NO_CLUSTER, Cluster
from neuroseg.fragments.settings import DISTANCE_BASINS, wants_sections
from neuroseg.geometry import Triple, describe, parse_roi, parse_triple, triple, whole
from neuroseg.networks.bundle import default_model, open_bundle
from neuroseg.networks.card import Card
from neuroseg.runs.cores import own_cores, predicting_workers
from neuroseg.runs.inputs import at_input
from neuroseg.runs.levels import nearest_level, require_suitable_size, size_text
from neuroseg.runs.options import CLUSTERS, NO_MASK, Options, memory_bytes, min_size_voxels
from neuroseg.runs.plan import PREDICTION, MaskPlan, Plan, read_options, read_plan
from neuroseg.storage.naming import default_workspace, is_unused, is_workspace
from neuroseg.storage.workspace import Workspace, named_workspace, workspace_of
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.affinity_source import open_affinities, open_boundaries
from neuroseg.volumes.content import content_of
from neuroseg.volumes.input_checks import require_raw
from neuroseg.volumes.input_paths import require_exists
from neuroseg.volumes.mask import open_mask
from neuroseg.volumes.placement import Grid
from neuroseg.volumes.plausible import require_plausible_voxel_size
from neuroseg.volumes.raw import checked_range
from neuroseg.volumes.volume import Volume, require_voxel_size

DEFAULT_BLOCK_VOXELS = 256
_TINY_BLOCK_VOXELS = 16**3
_CHUNK_VOXELS = 64
_DEFAULT_THRESHOLD = 0.5
# The parts of the plan that neuroseg segment may change, with their options.
_OPTION_OF = {
    "blocks": "blocks", "per_section": "per_section", "min_size_voxels": "min_size", "small": "small",
    "executor": "executor", "block_timeout_s": "block_timeout", "workers": "workers", "mask": "mask",
    "mask_boundary": "mask_boundary", "memory_bytes": "memory",
    "fragments": "fragments", "long_range": "long_range", "agglomeration": "agglomeration",
}  # fmt: skip
# Options that a workspace does not remember: its path, because it may move, and those that apply only to one run.
_FORGOTTEN = ("output", "roi", "force", "keep")
# The option that names the input of each kind.
_SOURCES = {"raw": "volume", "affinities": "affinities", "boundaries": "boundaries"}
_LEAST_Z_EDGE = 0.25

logger = logging.getLogger(__name__)


def plan_of_run(options: Options, cluster: Cluster = NO_CLUSTER) -> tuple[Workspace, Plan, Options]:
    """Return workspace, plan and options of a prediction, a run, or a segmentation of given affinities or boundaries.

    A workspace remembers the options of its last run, except region, `force` and `keep`. Options given now override
    them. `cluster` is used only by executors of a cluster. Raises InputError if an option or the input is invalid.
    """
    if not options.volume and not options.output:
        raise InputError("no workspace for the result", hint="pass -o WORKSPACE")
    workspace, options = _with_input(options)
    _require_outside_zarr(workspace.path)
    merged = _with_remembered(workspace, options)
    plan = _plan_of_raw(merged, cluster) if merged.volume else _plan_of_affinities(merged)
    if is_workspace(workspace.path):
        old = read_plan(workspace)
        _require_same_input(old, plan, workspace)
        if not options.roi and old.roi != plan.roi:
            logger.warning(
                "the last run used the region %s, but this one uses the whole volume; to continue there, use --roi %s",
                *[old.roi] * 2,
            )
    return workspace, plan, merged


def plan_of_segmentation(options: Options) -> tuple[Workspace, Plan, Options]:
    """Return workspace, plan and options of segmenting the affinities in a workspace. The prediction does not change.

    Volume and model need not exist any more. Raises InputError if an option is invalid or there is no workspace.
    """
    if not options.volume:
        raise InputError(
            "no volume to segment", hint="pass a volume or its workspace, or --affinities or --boundaries with -o"
        )
    workspace = workspace_of_options(options)
    if not is_workspace(workspace.path):
        if Path(options.volume).suffix == ".neuroseg":
            raise InputError(f"{options.volume} is not a workspace", hint="run neuroseg run VOLUME first")
        open_any(options.volume, selection=options.selection)  # raises if there is no such volume either
        raise InputError(f"{workspace.path} is not a workspace", hint=f"run neuroseg predict {options.volume} first")
    old = read_plan(workspace)
    if options.input:
        old = at_input(old, str(options.with_absolute_paths().input), workspace)
    given = options.model_copy(update={"volume": None, "output": None, "input": None})
    merged = _with_remembered(workspace, given).model_copy(update={_SOURCES[old.kind]: old.path})
    wanted = options.model_copy(update={"roi": options.roi or old.roi})
    common = _common(wanted, old.shape, old.grid, "cpu")
    kept = {"prediction_workers"}
    kept |= {name for name, option in _OPTION_OF.items() if getattr(options, option) is None}
    changed = {name: value for name, value in common.items() if name not in kept}
    scoring = options.scoring or old.scoring
    threshold = old.threshold if scoring == old.scoring else _DEFAULT_THRESHOLD
    changed |= {"scoring": scoring, "threshold": threshold if options.threshold is None else options.threshold}
    mask = changed.get("mask")
    if mask and old.predicted_mask and mask.identity == old.predicted_mask.identity:
        changed["predicted_mask"] = mask  # the same mask, perhaps at a new path
    return workspace, old.model_copy(update=changed), merged


def workspace_of_options(options: Options) -> Workspace:
    """Return the workspace that `plan_of_run` and `plan_of_segmentation` return. Raises InputError as they do."""
    return _named(options) or _workspace_for(options)


def _named(options: Options) -> Workspace | None:
    """Return the workspace that is given instead of a volume, or None. Raises InputError if -o names another one."""
    named = named_workspace(options.volume) if options.volume else None
    if named and options.output and workspace_of(options.output).path.resolve() != named.path.resolve():
        raise InputError(f"-o {options.output} differs from the workspace {options.volume}", hint="remove -o")
    return named


def _with_input(options: Options) -> tuple[Workspace, Options]:
    """Return the workspace, and the options with the current path of the input.

    If a workspace is given instead of a volume, the run continues with the volume that it remembers.
    """
    source = next((name for name in ("affinities", "boundaries") if getattr(options, name)), "volume")
    named = _named(options) if source == "volume" else None
    if named is None:
        place = options.input or getattr(options, source)
        return _workspace_for(options), options.model_copy(update={source: place, "input": None})
    old = read_plan(named)
    if old.kind != "raw":
        raise InputError(f"{named.path} has no raw volume, only {old.kind}", hint=f"run neuroseg segment {named.path}")
    if not options.input:
        require_exists(old.path, "volume", f"run neuroseg run {named.path} --input NEW")
    return named, options.model_copy(update={"volume": options.input or old.path, "input": None})


def _workspace_for(options: Options) -> Workspace:
    """Return the workspace in the options, or the default one of their volume."""
    return workspace_of(options.output) if options.output else Workspace(default_workspace(options.volume or ""))


def _with_remembered(workspace: Workspace, options: Options) -> Options:
    """Return the options of the last run, overridden by those given now, with absolute paths."""
    if not is_workspace(workspace.path):
        if not is_unused(workspace.path):
            raise InputError(f"{workspace.path} exists but is not a workspace", hint="choose another path with -o")
        return options.with_absolute_paths()
    remembered = read_options(workspace).model_dump(exclude_none=True, exclude_defaults=True)
    now = options.with_absolute_paths().model_dump(exclude_none=True, exclude_defaults=True)
    # A threshold is valid only for its scoring.
    other_scoring = "scoring" in now and now["scoring"] != remembered.get("scoring")
    for name in (*_FORGOTTEN, "threshold") if other_scoring else _FORGOTTEN:
        remembered.pop(name, None)
    return Options.model_validate({**remembered, **now})


def _plan_of_raw(options: Options, cluster: Cluster) -> Plan:
    """Return the plan of predicting a raw volume."""
    assert options.volume is not None
    from neuroseg.affinities.predictors import checked_augmentation

    bundle = open_bundle(options.model or default_model())
    bundle.check(options.blend)
    level, volume, size, value_range = _checked_raw(options, bundle.card)
    device, identity = _device(options, cluster)
    bundle = bundle.on(device)
    card = bundle.card
    common = _common(options, volume.shape, Grid(size, volume.offset_nm, volume.zero), device)
    content = content_of(volume)
    return Plan(
        kind="raw",
        path=options.volume,
        level=level,
        corner_nm=volume.corner_nm,
        selection=options.selection,
        value_range=value_range,
        normalise=options.normalise or "none",
        input_identity=content.identity,
        input_content=content,
        model=options.model or default_model(),
        model_identity=f"{card.name}@{bundle.sha256[:16]}",
        tile_voxels=card.tile.output_voxels,
        blend=options.blend or card.tile.blend,
        tta=str(checked_augmentation(bundle, options.blend, options.tta)),
        predicted_mask=common["mask"],
        predicted_blocks=common["blocks"],
        device=device,
        device_identity=identity,
        offsets=card.offsets,
        scoring=options.scoring or card.segmentation.scoring,
        threshold=_threshold(options, card.segmentation.scoring, card.segmentation.threshold),
        **common,
    )


def _checked_raw(
    options: Options, card: Card
) -> tuple[int, Volume, tuple[float, float, float], tuple[float, float] | None]:
    """Return pyramid level, volume, voxel size (nm) and value range of the raw volume, checked against a model."""
    path, level = str(options.volume), options.level
    if level is None:
        level = nearest_level(path, card.voxel_size_nm, options.selection)
    volume = open_any(path, level=level, voxel_size_nm=options.voxel_size, selection=options.selection)
    size = require_voxel_size(volume)
    # In coarse levels of a pyramid, voxels may be wider than thick. Then the check would fail.
    require_plausible_voxel_size(path, size, force=options.force or level > 0)
    require_suitable_size(card, size, path, force=options.force)
    value_range = checked_range(volume, options.range, invert=options.invert)
    require_raw(volume, value_range, chosen=options.range is not None, force=options.force)
    return level, volume, size, value_range


def _device(options: Options, cluster: Cluster) -> tuple[str, dict[str, str]]:
    """Return name and identity of the device that predicts. It may be on another machine."""
    from neuroseg.affinities.planned_device import local_device, remote_device

    name = options.device or "auto"
    if options.executor in CLUSTERS:
        return remote_device(name, cluster.loaded_site().resources(PREDICTION[-1]).gpus)
    return local_device(name)


def _plan_of_affinities(options: Options) -> Plan:
    """Return the plan of segmenting given affinities or boundaries."""
    if options.affinities and options.boundaries:
        raise InputError("--affinities and --boundaries cannot be used together")
    if options.affinities:
        source = open_affinities(
            options.affinities, options.offsets, options.voxel_size, options.selection, force=options.force
        )
    else:
        assert options.boundaries is not None
        source = open_boundaries(options.boundaries, options.voxel_size, options.selection, force=options.force)
    require_plausible_voxel_size(source.path, source.voxel_size_nm, force=options.force)
    common = _common(options, source.shape, Grid(source.voxel_size_nm, source.offset_nm, source.zero), "cpu")
    return Plan(
        kind=source.kind,
        path=source.path,
        level=0,
        corner_nm=source.corner_nm,
        selection=options.selection,
        value_range=None,
        normalise="none",
        input_identity=source.identity,
        input_content=source.content,
        model=None,
        model_identity=None,
        tile_voxels=None,
        blend="",
        predicted_mask=None,
        device="cpu",
        device_identity={},
        offsets=source.offsets,
        scoring=options.scoring or "mean",
        threshold=_DEFAULT_THRESHOLD if options.threshold is None else options.threshold,
        predicted_blocks=common["blocks"],
        **common,
    )


def _common(options: Options, shape: Any, grid: Grid, device: str) -> dict[str, Any]:
    """Return the part of the plan that does not depend on the kind of input."""
    shape, voxel_size_nm = triple(shape), grid.voxel_size_nm
    unit = min(voxel_size_nm[1:])
    if voxel_size_nm[0] < _LEAST_Z_EDGE * unit:
        raise InputError(
            f"voxels of {size_text(voxel_size_nm)} nm are more than {1 / _LEAST_Z_EDGE:g} times finer in z than in xy",
            hint="downsample z first",
        )
    cores = own_cores()
    roi = parse_roi(options.roi, shape) if options.roi else whole(shape)
    per_section = options.per_section or "auto"
    return {
        "shape": shape,
        "voxel_size_nm": voxel_size_nm,
        "offset_nm": grid.offset_nm,
        "offset_convention": grid.convention,
        "roi": describe(roi),
        "blocks": _blocks(options, shape),
        "per_section": wants_sections(voxel_size_nm) if per_section == "auto" else per_section == "on",
        "mask": _mask(options.mask, shape, grid),
        "mask_boundary": options.mask_boundary or 0.0,
        "fragments": options.fragments or DISTANCE_BASINS,
        "long_range": options.long_range == "on",
        "agglomeration": options.agglomeration or MERGE_TREE,
        "min_size_voxels": min_size_voxels(options.min_size or "0", voxel_size_nm),
        "small": options.small or "merge",
        "executor": options.executor or "local",
        "block_timeout_s": options.block_timeout or BLOCK_TIMEOUT_S,
        "memory_bytes": None if options.memory is None else memory_bytes(options.memory),
        # On a cluster, 0 means the number in the cluster configuration file.
        "workers": options.workers or (0 if options.executor in CLUSTERS else cores),
        "prediction_workers": options.workers or predicting_workers(device),
    }


def _mask(path: str | None, shape: Triple, grid: Grid) -> MaskPlan | None:
    if path is None or path == NO_MASK:
        return None
    opened = open_mask(path, shape, grid.voxel_size_nm, grid.offset_nm, grid.convention)
    return MaskPlan(path=path, identity=opened.identity, content=opened.content)


def _blocks(options: Options, shape: Triple) -> Triple:
    """Return the block shape in voxels, limited to the volume, because shards beyond it have large indices."""
    wanted = parse_triple(options.blocks, "--blocks") if options.blocks else (DEFAULT_BLOCK_VOXELS,) * 3
    if math.prod(wanted) < _TINY_BLOCK_VOXELS and any(w < size for w, size in zip(wanted, shape, strict=True)):
        logger.warning(
            "blocks of %s voxels are tiny: most time is spent on overhead and reading context; use --blocks 64 or more",
            " x ".join(map(str, wanted)),
        )
    return triple(
        [min(width, -(-size // _CHUNK_VOXELS) * _CHUNK_VOXELS) for width, size in zip(wanted, shape, strict=True)]
    )


def _require_outside_zarr(path: Path) -> None:
    """Raise InputError if the workspace is inside a zarr, because neuroseg never writes into an input."""
    for folder in path.resolve().parents:
        if any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray")):
            raise InputError(f"the workspace {path} is inside the zarr {folder}", hint="choose another path with -o")


def _threshold(options: Options, card_scoring: str, card_threshold: float) -> float:
    """Return the threshold. The card's threshold is valid only for the card's scoring."""
    if options.threshold is not None:
        return options.threshold
    return card_threshold if options.scoring in (None, card_scoring) else _DEFAULT_THRESHOLD


def _require_same_input(old: Plan, new: Plan, workspace: Workspace) -> None:
    if old.kind != new.kind:
        raise RunRefusedError(
            f"{workspace.path} is the workspace of {old.kind} {old.path}, not of {new.kind} {new.path}",
            hint="choose another workspace with -o",
        )
