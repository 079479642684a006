"""Check the requirements of the alternative methods, and warn about their limits.

This runs before the first stage, so that a missing package or a too large volume is reported immediately.
"""

from __future__ import annotations

import importlib.util
import logging

from neuroseg.agglomeration.names import GAEC, MERGE_TREE, MULTICUT, WATERZ
from neuroseg.agglomeration.scorings import MEAN, parse_scoring
from neuroseg.agglomeration.waterz import QUANTILES
from neuroseg.errors import InputError
from neuroseg.fragments.settings import DISTANCE_BASINS, DISTANCE_WATERSHED, MUTEX_WATERSHED, SEEDED_WATERSHED
from neuroseg.geometry import long_range_channels
from neuroseg.runs.options import Options
from neuroseg.runs.plan import Plan
from neuroseg.storage.free_memory import free_memory_bytes

_PACKAGES = {
    SEEDED_WATERSHED: "skimage",
    DISTANCE_WATERSHED: "elf",
    MUTEX_WATERSHED: "bioimage_cpp",
    MULTICUT: "elf",
    GAEC: "elf",
    WATERZ: "waterz",
}
# Affinities as float32 and uint8, three volumes of ids, and a margin for the graph (measured: 40).
_WATERZ_BYTES_PER_VOXEL = 64

logger = logging.getLogger(__name__)


def check_methods(plan: Plan, options: Options) -> None:
    """Raise InputError if a method cannot run with these options. Warn if the result depends on the blocks."""
    for method in (plan.fragments, plan.agglomeration):
        package = _PACKAGES.get(method)
        if package is not None and importlib.util.find_spec(package) is None:
            raise InputError(f"{method} needs the package {package}", hint="pip install 'neuroseg[alternatives]'")
    _check_fragments(plan, options)
    _check_agglomeration(plan)
    if plan.long_range and not long_range_channels(plan.offsets):
        raise InputError(
            f"--long-range on needs long-range channels, but the offsets are {list(plan.offsets)}",
            hint="use --long-range off",
        )


def _check_fragments(plan: Plan, options: Options) -> None:
    if plan.fragments == DISTANCE_BASINS:
        return
    if options.per_section in ("on", "off"):
        fixed = "in 3D" if plan.fragments == MUTEX_WATERSHED else "per section"
        raise InputError(
            f"--per-section {options.per_section} does not work with {plan.fragments}, which always works {fixed}",
            hint="use --per-section auto",
        )
    if plan.mask_boundary:
        raise InputError(
            f"--mask-boundary works only with --fragments {DISTANCE_BASINS}, not with {plan.fragments}",
            hint="remove --mask-boundary",
        )
    if _are_cut(plan):
        _warn_of_cuts(plan)


def _are_cut(plan: Plan) -> bool:
    """Return whether block faces cut fragments. Methods that work per section have no faces along z."""
    roi, axes = plan.lattice.roi, (0, 1, 2) if plan.fragments == MUTEX_WATERSHED else (1, 2)
    return any(roi.begin[axis] // plan.blocks[axis] != (roi.end[axis] - 1) // plan.blocks[axis] for axis in axes)


def _warn_of_cuts(plan: Plan) -> None:
    logger.warning(
        "%s cuts fragments at block faces, so the segmentation depends on --blocks (%s); use it only for comparison; "
        "%s does not depend on the blocks",
        plan.fragments, ",".join(map(str, plan.blocks)), DISTANCE_BASINS,
    )  # fmt: skip


def _check_agglomeration(plan: Plan) -> None:
    if plan.agglomeration == MERGE_TREE:
        return
    if not 0 < plan.threshold < 1:
        raise InputError(
            f"{plan.agglomeration} needs a --threshold above 0 and below 1, found {plan.threshold:g}",
            hint="use for example --threshold 0.5",
        )
    if plan.agglomeration == WATERZ:
        _check_waterz(plan)


def _check_waterz(plan: Plan) -> None:
    percent = parse_scoring(plan.scoring).percent
    if percent != MEAN and percent not in QUANTILES:
        valid = ", ".join(["mean", *(f"quantile:{percent}" for percent in QUANTILES)])
        raise InputError(f"--scoring {plan.scoring} does not work with waterz (valid: {valid})")
    if plan.long_range:
        raise InputError(
            "--long-range on does not work with waterz, which uses only direct neighbours",
            hint="use --long-range off, or another --agglomeration",
        )
    needed, available = plan.lattice.roi.size * _WATERZ_BYTES_PER_VOXEL, free_memory_bytes()
    if needed > available:
        raise InputError(
            f"waterz needs the whole region in memory, about {needed / 1e9:.1f} GB for {plan.roi}, but only "
            f"{available / 1e9:.1f} GB are free",
            hint="use --agglomeration tree, or a smaller --roi",
        )
