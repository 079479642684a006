"""A segmentation that is unlikely to be right -> its likely cause: first raw, then voxel size, then affinities.

Another threshold is suggested only where none of these is suspicious. What is read is a sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import NeurosegError
from neuroseg.geometry import Nanometres, contact_channels, parse_roi, triple
from neuroseg.networks.bundle import open_bundle
from neuroseg.runs.levels import largest_ratio
from neuroseg.runs.plan import Plan, read_plan
from neuroseg.volumes.input_checks import sample_values
from neuroseg.volumes.values import raw_findings, sampled_boxes

if TYPE_CHECKING:
    from neuroseg.storage.workspace import Workspace

MERGED, PIECES, NOTHING = "merged", "pieces", "nothing"

_MERGED_SHARE = 0.3
# Half of the segmented voxels lie in smaller segments, and there are many. Neurons of FIB-25: half in more than 976,835
# voxels, its supervoxels 319,145; Voronoi cells of 18 voxels 6,471; what an inverted map gives 349.
_PIECE_VOXELS, _MANY_SEGMENTS = 2000, 100
_NOTHING_SHARE = 0.01
_DISTANT_RATIO = 1.5
# Affinities as uint8. Below 0.1 lie 0.15 of those that the bundled model predicts for FIB-25, 0.28 of Voronoi cells and
# 0.84 of an inverted map; above 0.9 lie 0.66 and 0.73 of the first two, and all of a nearly black volume.
_NEAR_ZERO, _NEAR_ONE = 26, 229
_MOSTLY_ZERO, _MOSTLY_ONE = 0.5, 0.98
_UNIFORM_WIDTH = 13


@dataclass(frozen=True)
class Facts:
    """What a run was made of. `raw`: what is wrong with its values; voxel sizes: (the model's, the volume's).

    `affinities` counts the sampled values 0 to 255. Each is None where it does not apply or cannot be read any more.
    """

    kind: str
    raw: str | None = None
    voxel_sizes_nm: tuple[Nanometres, Nanometres] | None = None
    affinities: NDArray[np.int64] | None = None


def symptom_of(sizes: NDArray[np.int64], voxels: int) -> str | None:
    """Return what is unlikely about segments of `sizes` (index 0: none) in a region of `voxels`; None if nothing is."""
    segments = np.sort(sizes[1:])[::-1]
    total = int(segments.sum())
    if total <= _NOTHING_SHARE * voxels:
        return NOTHING
    if segments[0] > _MERGED_SHARE * total:
        return MERGED
    typical = segments[int(np.searchsorted(np.cumsum(segments), total / 2))]
    return PIECES if typical < _PIECE_VOXELS and len(segments) >= _MANY_SEGMENTS else None


def advice(symptom: str, facts: Facts) -> str:
    """Return the likely cause of a symptom and what to do about it, as one or two sentences."""
    if facts.raw is not None:
        return f"the likely cause is raw: {facts.raw}"
    if facts.voxel_sizes_nm is not None and largest_ratio(*facts.voxel_sizes_nm) > _DISTANT_RATIO:
        model, volume = (" x ".join(f"{edge:g}" for edge in size) for size in facts.voxel_sizes_nm)
        return (
            f"the likely cause is the voxel size: the model was trained at {model} nm, the volume has {volume} nm. "
            "Use another --level or --model, or correct it with --voxel-size"
        )
    about = None if facts.affinities is None else _about_affinities(facts.affinities, facts.kind)
    if about is not None:
        return f"the likely cause is the affinities: {about}"
    return _ABOUT_THRESHOLD[symptom]


_ABOUT_THRESHOLD = {
    MERGED: "if several neurons are merged, use a lower --threshold",
    PIECES: "if neurons are in pieces, use a higher --threshold",
    NOTHING: "hardly anything is segmented: check --mask, --mask-boundary and --min-size, or use a higher --threshold",
}
_FIXES = {
    "raw": "Check that the contrast suits the model (--invert if membranes are bright), or use another --model",
    "affinities": "1 must mean the same object: check the channels, or invert the values",
    "boundaries": "1 must mean a boundary: if 1 is the inside of neurons, invert the map, for example with "
    "neuroseg import MAP -o INVERTED.zarr --range 1 0",
}


def _about_affinities(counts: NDArray[np.int64], kind: str) -> str | None:
    """Return what is wrong with the affinities of which there are `counts`; None if nothing is."""
    total = int(counts.sum())
    if not total:
        return None
    low, high = (int(np.searchsorted(np.cumsum(counts), share * total)) for share in (0.01, 0.99))
    mean = float((counts * np.arange(256)).sum() / total / 255)
    near_zero, near_one = counts[:_NEAR_ZERO].sum() / total, counts[_NEAR_ONE + 1 :].sum() / total
    if high - low <= _UNIFORM_WIDTH:
        found = f"they are {mean:.2f} nearly everywhere"
    elif near_zero > _MOSTLY_ZERO:
        found = f"{100 * near_zero:.0f} % are near 0 (mean {mean:.2f})"
    elif near_one > _MOSTLY_ONE:
        found = f"{100 * near_one:.0f} % are near 1 (mean {mean:.2f})"
    else:
        return None
    return f"{found}. {_FIXES[kind]}"


def advice_on(workspace: Workspace, sizes: NDArray[np.int64]) -> str | None:
    """Return advice on the segmentation of a workspace with segments of `sizes`; None where it looks right."""
    plan = read_plan(workspace)
    region = parse_roi(plan.roi, plan.shape)
    symptom = symptom_of(sizes, 0 if plan.mask else int(region.size))
    if symptom is None:
        return None
    return advice(symptom, Facts(plan.kind, _raw(plan), _voxel_sizes(plan), _affinities(workspace, plan)))


def _raw(plan: Plan) -> str | None:
    """Return what is wrong with the raw values; None where they look right, or are not there any more."""
    if plan.kind != "raw":
        return None
    try:
        findings = raw_findings(sample_values(plan.raw_source().volume()), plan.value_range, chosen=False)
    except (NeurosegError, OSError):
        return None
    return str(findings[0]) if findings else None


def _voxel_sizes(plan: Plan) -> tuple[Nanometres, Nanometres] | None:
    try:
        return (open_bundle(plan.model).card.voxel_size_nm, plan.voxel_size_nm) if plan.model else None
    except (NeurosegError, OSError):
        return None


def _affinities(workspace: Workspace, plan: Plan) -> NDArray[np.int64] | None:
    """Return how often each affinity of direct neighbours occurs in a sample of the region; None where they are gone.

    Voxels outside the mask do not count: they are 0.
    """
    region = parse_roi(plan.roi, plan.shape)
    counts = np.zeros(256, np.int64)
    try:
        read = plan.affinity_source(workspace).only(contact_channels(plan.offsets)).open()
        mask = plan.mask_source(plan.mask)
        inside = mask.open() if mask else None
        for box in sampled_boxes(triple(region.shape)):
            values = read(box + region.begin)
            counts += np.bincount((values[:, inside(box + region.begin)] if inside else values).ravel(), minlength=256)
    except (NeurosegError, OSError):
        return None
    return counts
