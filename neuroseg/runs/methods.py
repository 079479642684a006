"""Checks and warnings of the methods that are there for comparison: what they need, and what they cost.

Called before anything runs: a package that is missing or a volume that does not fit must not show after hours.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

from neuroseg.agglomeration.names import GAEC, MERGE_TREE, MULTICUT, WATERZ
from neuroseg.agglomeration.scorings import MEAN, parse_scoring
from neuroseg.agglomeration.waterz import QUANTILES
from neuroseg.errors import InputError
from neuroseg.fragments.settings import DISTANCE_BASINS, DISTANCE_WATERSHED, MUTEX_WATERSHED, SEEDED_WATERSHED
from neuroseg.geometry import long_range_channels
from neuroseg.runs.options import Options
from neuroseg.runs.plan import Plan

_PACKAGES = {
    SEEDED_WATERSHED: "skimage",
    DISTANCE_WATERSHED: "elf",
    MUTEX_WATERSHED: "bioimage_cpp",
    MULTICUT: "elf",
    GAEC: "elf",
    WATERZ: "waterz",
}
# Affinities as float32 and uint8, three volumes of ids, and room for the graph (measured: 40).
_WATERZ_BYTES_PER_VOXEL = 64

logger = logging.getLogger(__name__)


def check_methods(plan: Plan, options: Options) -> None:
    """Raise InputError for methods that could not run as asked; warn where the result will depend on the blocks."""
    for method in (plan.fragments, plan.agglomeration):
        package = _PACKAGES.get(method)
        if package is not None and importlib.util.find_spec(package) is None:
            raise InputError(f"{method} needs the package {package}: pip install 'neuroseg[alternatives]'")
    _check_fragments(plan, options)
    _check_agglomeration(plan)
    if plan.long_range and not long_range_channels(plan.offsets):
        raise InputError(f"--long-range on: none of the channels is long-range; offsets: {list(plan.offsets)}")


def _check_fragments(plan: Plan, options: Options) -> None:
    if plan.fragments == DISTANCE_BASINS:
        return
    if options.per_section in ("on", "off"):
        fixed = "never per section" if plan.fragments == MUTEX_WATERSHED else "always per section"
        raise InputError(f"--per-section {options.per_section}: {plan.fragments} is {fixed}; use --per-section auto")
    if plan.mask_boundary:
        raise InputError(f"--mask-boundary belongs to {DISTANCE_BASINS}; leave it out with {plan.fragments}")
    if _are_cut(plan):
        _warn_of_cuts(plan)


def _are_cut(plan: Plan) -> bool:
    """Return whether fragments meet a face between two blocks; those within a section have none along z."""
    roi, axes = plan.lattice.roi, (0, 1, 2) if plan.fragments == MUTEX_WATERSHED else (1, 2)
    return any(roi.begin[axis] // plan.blocks[axis] != (roi.end[axis] - 1) // plan.blocks[axis] for axis in axes)


def _warn_of_cuts(plan: Plan) -> None:
    logger.warning(
        "%s cuts fragments at the faces of the blocks: the segmentation depends on --blocks (%s); it is for "
        "comparison, %s does not depend on them",
        plan.fragments, ",".join(map(str, plan.blocks)), DISTANCE_BASINS,
    )  # fmt: skip


def _check_agglomeration(plan: Plan) -> None:
    if plan.agglomeration == MERGE_TREE:
        return
    if not 0 < plan.threshold < 1:
        raise InputError(
            f"--threshold {plan.threshold:g}: {plan.agglomeration} needs one strictly between 0 and 1, such as 0.5"
        )
    if plan.agglomeration == WATERZ:
        _check_waterz(plan)


def _check_waterz(plan: Plan) -> None:
    percent = parse_scoring(plan.scoring).percent
    if percent != MEAN and percent not in QUANTILES:
        raise InputError(f"--scoring {plan.scoring}: waterz has the quantiles {', '.join(map(str, QUANTILES))}")
    if plan.long_range:
        raise InputError("--long-range on: waterz sees direct neighbours alone; use another --agglomeration")
    needed, available = plan.lattice.roi.size * _WATERZ_BYTES_PER_VOXEL, _available_bytes()
    if needed > available:
        raise InputError(
            f"waterz holds the whole region in memory: about {needed / 1e9:.1f} GB for {plan.roi}, "
            f"{available / 1e9:.1f} GB are free; use --agglomeration tree, or a smaller --roi"
        )


def _available_bytes() -> int:
    """Return how much memory a process may still take: the machine's, or less where a control group limits it."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    free = next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - int(used))
