"""An implausible segmentation -> its likely cause: raw values, voxel size or affinities, checked in this order.

Another threshold is suggested only if none of these is suspicious. Only a sample of the values is read.
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
from neuroseg.storage.parts import map_lookup
from neuroseg.volumes.input_checks import sample_values
from neuroseg.volumes.values import raw_findings, sampled_boxes

if TYPE_CHECKING:
    from neuroseg.storage.workspace import Workspace

MERGED, PIECES, NOTHING = "merged", "pieces", "nothing"

_MERGED_SHARE = 0.3
# In pieces: half of the segmented voxels lie in segments smaller than this, and there are at least this many segments.
# Measured size at half of the voxels: neurons of FIB-25 976,835, its supervoxels 319,145, Voronoi cells of 18 voxels
# 6,471, segments from an inverted map 349.
_PIECE_VOXELS, _MANY_SEGMENTS = 2000, 100
_NOTHING_SHARE = 0.01
_DISTANT_RATIO = 1.5
# Affinities as uint8. Measured share below 0.1: bundled model on FIB-25 0.15, Voronoi cells 0.28, inverted map 0.84.
# Measured share above 0.9: bundled model on FIB-25 0.66, Voronoi cells 0.73, a nearly black volume 1.
_NEAR_ZERO, _NEAR_ONE = 26, 229
_MOSTLY_ZERO, _MOSTLY_ONE = 0.5, 0.98
_UNIFORM_WIDTH = 13
_MIN_SIZE = "--min-size"


@dataclass(frozen=True)
class Facts:
    """Findings about the inputs of a run. Each is None if it does not apply or can no longer be read.

    `raw`: the problem of its values. `voxel_sizes_nm`: of the model and of the volume. `affinities`: counts `(256,)` of
    the sampled values. `is_one_fragment`: the largest segment is a single fragment. `limits`: the options in use that
    leave voxels unsegmented.
    """

    kind: str
    raw: str | None = None
    voxel_sizes_nm: tuple[Nanometres, Nanometres] | None = None
    affinities: NDArray[np.int64] | None = None
    threshold: float | None = None
    is_one_fragment: bool = False
    limits: tuple[str, ...] = ()


def symptom_of(sizes: NDArray[np.int64], voxels: int) -> str | None:
    """Return the symptom of segments with `sizes` (index 0: background) in a region of `voxels`, or None."""
    segments = np.sort(sizes[1:])[::-1]
    total = int(segments.sum())
    if total <= _NOTHING_SHARE * voxels:
        return NOTHING
    if segments[0] > _MERGED_SHARE * total:
        return MERGED
    typical = segments[int(np.searchsorted(np.cumsum(segments), total / 2))]
    return PIECES if typical < _PIECE_VOXELS and len(segments) >= _MANY_SEGMENTS else None


def advice(symptom: str, facts: Facts) -> str:
    """Return the likely cause of a symptom and how to fix it, in one or two sentences."""
    if facts.raw is not None:
        return f"the likely cause is the raw volume: {facts.raw}"
    if facts.voxel_sizes_nm is not None and largest_ratio(*facts.voxel_sizes_nm) > _DISTANT_RATIO:
        model, volume = (" x ".join(f"{edge:g}" for edge in size) for size in facts.voxel_sizes_nm)
        return (
            f"the likely cause is the voxel size: the model was trained at {model} nm, the volume has {volume} nm. "
            "Use another --level or --model, or correct the voxel size with --voxel-size"
        )
    about = None if facts.affinities is None else _about_affinities(facts.affinities, facts.kind)
    if about is not None:
        return f"the likely cause is the affinities: {about}"
    return _about_options(symptom, facts)


def _about_options(symptom: str, facts: Facts) -> str:
    """Return advice on the options of the segmentation. It names only changes that can help."""
    if symptom == MERGED:
        if facts.is_one_fragment:
            return (
                "the largest segment is a single fragment, which --threshold cannot split: check the affinities there"
            )
        return "if several neurons are merged, use a lower --threshold"
    if symptom == PIECES:
        if facts.threshold == 1:
            return "the segments are small, although --threshold is already 1"
        return "if neurons are in pieces, use a higher --threshold"
    if not facts.limits:
        return "few voxels are segmented: check the input"
    more = ", or use a higher --threshold" if _MIN_SIZE in facts.limits and facts.threshold != 1 else ""
    return f"few voxels are segmented: check {' and '.join(facts.limits)}{more}"


_FIXES = {
    "raw": "If membranes are bright, use --invert. Otherwise use another --model",
    "affinities": "Affinity 1 must mean the same object: check the channels, or invert the values",
    "boundaries": "1 must mean a boundary. If 1 is the inside of neurons, invert the map, for example with "
    "neuroseg import MAP -o INVERTED.zarr --range 1 0",
}


def _about_affinities(counts: NDArray[np.int64], kind: str) -> str | None:
    """Return the problem of affinities with `counts` of the values 0 to 255, and its fix. None if there is none."""
    total = int(counts.sum())
    if not total:
        return None
    low, high = (int(np.searchsorted(np.cumsum(counts), share * total)) for share in (0.01, 0.99))
    mean = float((counts * np.arange(256)).sum() / total / 255)
    near_zero, near_one = counts[:_NEAR_ZERO].sum() / total, counts[_NEAR_ONE + 1 :].sum() / total
    if high - low <= _UNIFORM_WIDTH:
        found = f"nearly all have the value {mean:.2f}"
    elif near_zero > _MOSTLY_ZERO:
        found = f"{100 * near_zero:.0f} % are near 0 (mean {mean:.2f})"
    elif near_one > _MOSTLY_ONE:
        found = f"{100 * near_one:.0f} % are near 1 (mean {mean:.2f})"
    else:
        return None
    return f"{found}. {_FIXES[kind]}"


def advice_on(workspace: Workspace, sizes: NDArray[np.int64]) -> str | None:
    """Return advice on the segmentation of a workspace with segments of `sizes`. None if it is plausible."""
    plan = read_plan(workspace)
    region = parse_roi(plan.roi, plan.shape)
    symptom = symptom_of(sizes, 0 if plan.mask else int(region.size))
    if symptom is None:
        return None
    facts = Facts(
        plan.kind,
        _raw(plan),
        _voxel_sizes(plan),
        _affinities(workspace, plan),
        plan.threshold,
        _is_one_fragment(workspace, int(sizes[1:].argmax()) + 1) if symptom == MERGED else False,
        _limits(plan),
    )
    return advice(symptom, facts)


def _is_one_fragment(workspace: Workspace, segment: int) -> bool:
    return int(np.count_nonzero(map_lookup(workspace.lookup)["segment"] == segment)) == 1


def _limits(plan: Plan) -> tuple[str, ...]:
    used = {"--mask": plan.mask, "--mask-boundary": plan.mask_boundary, _MIN_SIZE: plan.min_size_voxels}
    return tuple(name for name, value in used.items() if value)


def _raw(plan: Plan) -> str | None:
    """Return the problem of the raw values. None if there is none, or if they can no longer be read."""
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
    """Return counts `(256,)` of the affinities of direct neighbours in a sample of the region.

    Voxels outside the mask are not counted: they are 0. Return None if the affinities can no longer be read.
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
