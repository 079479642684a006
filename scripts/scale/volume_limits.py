"""The needs of volumes of any size -> the size at which each limit of software or machine is reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from volume_model import Needs

from neuroseg.agglomeration.ordering import MOST_SMALL_ROWS
from neuroseg.runs.plan import MOST_BLOCKS, MOST_VOXELS

_GIB = 2**30
_DAY_HOURS = 24.0
# Between these numbers of voxels, a limit is searched.
_SMALLEST, _LARGEST = 1e6, 1e20
_STEPS = 60


@dataclass(frozen=True)
class Machine:
    """Memory of each worker and of the head, and the longest time that a run may take."""

    worker_gib: float = 64
    days: float = 30


@dataclass(frozen=True)
class Limit:
    """Something that must not become larger than `most`. `effect`: what happens beyond it."""

    name: str
    most: float
    value: Callable[[Needs], float]
    effect: str


def limits_of(machine: Machine) -> list[Limit]:
    """Return the limits of neuroseg and of a machine."""
    memory, hours = machine.worker_gib * _GIB, machine.days * _DAY_HOURS
    gib, days = f"{machine.worker_gib:g} GiB", f"{machine.days:g} days"
    in_files = "its tables are in temporary files"
    return [
        Limit(f"last group in memory, {gib}", memory, lambda needs: needs.worker_bytes["last group"], in_files),
        Limit(
            f"last group in memory, simulated edges, {gib}",
            memory,
            lambda needs: needs.worker_bytes["last group, simulated"],
            in_files,
        ),
        Limit(f"`lookup` in memory, {gib}", memory, lambda needs: needs.worker_bytes["lookup"], in_files),
        Limit(f"head, {gib}", memory, lambda needs: needs.head_bytes, "the head needs more memory"),
        Limit(f"last group and `lookup`, {days}", hours, lambda needs: needs.serial_hours, "the run takes longer"),
        Limit(f"head distributes blocks, {days}", hours, lambda needs: needs.head_hours, "more workers do not help"),
        Limit("10^8 blocks", MOST_BLOCKS, lambda needs: needs.blocks, "the run is refused; larger blocks are needed"),
        Limit("2^63 voxels", MOST_VOXELS, lambda needs: needs.voxels, "the run is refused"),
        Limit("2^30 rows of a group", MOST_SMALL_ROWS, lambda needs: needs.levels[-1].rows, "rows have 64-bit numbers"),
    ]


def reached(limits: Sequence[Limit], needs_of_voxels: Callable[[float], Needs]) -> list[dict[str, Any]]:
    """Return each limit with the number of voxels of the smallest cube that exceeds it, ascending.

    None, at the end, for a limit that the largest cube does not reach.
    """
    found = [(_voxels_at(limit, needs_of_voxels), limit) for limit in limits]
    found.sort(key=lambda each: each[0] or float("inf"))
    return [{"limit": limit.name, "voxels": voxels, "effect": limit.effect} for voxels, limit in found]


def _voxels_at(limit: Limit, needs_of_voxels: Callable[[float], Needs]) -> float | None:
    """Return the number of voxels at which a value that grows exceeds its limit."""
    low, high = _SMALLEST, _LARGEST
    if limit.value(needs_of_voxels(high)) <= limit.most:
        return None
    for _ in range(_STEPS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if limit.value(needs_of_voxels(middle)) <= limit.most else (low, middle)
    return high
