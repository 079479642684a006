"""Describe a volume or a workspace for `neuroseg info`, from metadata, a sample of the values and the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuroseg.storage.naming import HDF5_SUFFIXES
from neuroseg.storage.remote import is_remote
from neuroseg.volumes.images import member
from neuroseg.volumes.input_checks import chunks_of, sample_values
from neuroseg.volumes.metadata import ome_levels
from neuroseg.volumes.raw import checked_range
from neuroseg.volumes.selection import WHOLE_FILE, Selection
from neuroseg.volumes.values import Finding, Sample, is_label_like, label_findings, raw_findings
from neuroseg.volumes.volume import Volume
from neuroseg.volumes.zarr_nodes import open_node

if TYPE_CHECKING:
    from neuroseg.storage.workspace import Workspace

RAW, LABELS, WORKSPACE = "raw", "labels", "workspace"


def volume_contents(volume: Volume, selection: Selection = WHOLE_FILE) -> dict[str, Any]:
    """Return the kind of a volume, findings from a sample of its values, counts of stored chunks, and its levels."""
    attributes = _image_attributes(volume.path)
    sample = sample_values(volume)
    kind = _kind(volume, sample, attributes)
    chunks = chunks_of(volume)
    finite = sample.values[np.isfinite(sample.values)]
    return {
        "kind": kind,
        "sampled_values": [float(finite[0]), float(finite[-1])] if len(finite) else None,
        "sampled_ids": int((sample.values != 0).sum()) if kind == LABELS else None,
        "findings": [str(finding) for finding in _findings(volume, sample, kind)],
        "chunks_stored": chunks.stored if chunks else None,
        "chunks_expected": chunks.expected if chunks else None,
        "chunks_looked_at": chunks.checked if chunks else None,
        "levels": _levels(volume.path, attributes, selection),
    }


def workspace_contents(workspace: Workspace) -> dict[str, Any]:
    """Return the inputs of a workspace, the progress of its stages, and the path of its segmentation, or None."""
    from neuroseg.runs.plan import read_plan

    plan = read_plan(workspace)
    stages = []
    for stage in plan.stages(workspace):
        blocks = stage.lattice.blocks(stage.halo)
        left = len(workspace.ledger(stage.name, stage.identity, stage.scope).pending(blocks))
        stages.append({"stage": stage.name, "done": len(blocks) - left, "blocks": len(blocks)})
    content: dict[str, Any] = {
        "path": str(workspace.path),
        "kind": WORKSPACE,
        "input": plan.path,
        "input_kind": plan.kind,
        "model": plan.model,
        "shape": list(plan.shape),
        "voxel_size_nm": list(plan.voxel_size_nm),
        "roi": plan.roi,
        "stages": stages,
        "segmentation": None,
    }
    if workspace.segmentation.exists():
        settings = open_node(workspace.segmentation).attrs["neuroseg"]
        content["segmentation"] = str(workspace.segmentation)
        content |= {name: settings[name] for name in ("threshold", "scoring")}
    return content


def _kind(volume: Volume, sample: Sample, attributes: dict[str, Any]) -> str:
    is_stated = "image-label" in attributes.get("ome", {}) or "image-label" in attributes
    is_whole = volume.dtype.kind == "b" or (volume.dtype.kind in "ui" and volume.dtype.itemsize > 2)
    return LABELS if is_stated or is_whole or is_label_like(sample) else RAW


def _findings(volume: Volume, sample: Sample, kind: str) -> list[Finding]:
    if kind == LABELS:
        return label_findings(sample)
    if volume.dtype.kind != "u":
        return []  # the range of values is unknown without --range
    return raw_findings(sample, checked_range(volume, None), chosen=False)


def _image_attributes(path: str) -> dict[str, Any]:
    """Return the attributes of a zarr group. Empty for an array and for HDF5."""
    if not is_remote(path) and any(f"{suffix}:" in path.lower() for suffix in HDF5_SUFFIXES):
        return {}
    node = open_node(path)
    return {} if hasattr(node, "shape") else dict(node.attrs)


def _levels(path: str, attributes: dict[str, Any], selection: Selection) -> list[dict[str, Any]]:
    """Return path, shape and voxel size of the levels of an OME-NGFF image, finest first. Empty for other volumes."""
    levels = ome_levels(attributes)
    node = open_node(path) if levels else None
    return [
        {
            "path": level.path,
            "shape": list(getattr(member(node, path, level.path), "shape", ())) or None,
            "voxel_size_nm": list(level.voxel_size_nm(path, selection) or ()) or None,
        }
        for level in levels
    ]
