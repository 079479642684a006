"""Constants -> time, disk, files and memory of the run of a large volume."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from measured_constants import AFFINITIES, SIMULATED, Constants
from open_rows import Law, layers_of

from neuroseg.blocks import whole_lattice
from neuroseg.storage.parts import FILES_A_FOLDER

_HOUR_S = 3600.0


@dataclass(frozen=True)
class Level:
    """One level of groups of the agglomeration. `rows`: those that all of its groups read. `group_*`: of one group."""

    groups: int
    rows: float
    group_rows: float
    group_hours: float
    group_bytes: float


@dataclass(frozen=True)
class Needs:
    """The needs of a run. `core_hours` by stage, `disk_bytes` by artifact, `worker_bytes` by what needs the memory.

    `handed_out`: blocks of all stages. `head_hours`: what the head needs for them. `fed_workers`: so many workers keep
    the head busy. `serial_hours`: the last group and the lookup, which have one worker. `levels`: as measured with
    affinities, if they were; the memory of the last group is also there as measured with simulated edges.
    """

    name: str
    shape: tuple[int, ...]
    voxels: int
    blocks: int
    fragments: float
    rows: float
    levels: tuple[Level, ...]
    core_hours: Mapping[str, float]
    serial_hours: float
    disk_bytes: Mapping[str, float]
    files: float
    most_entries: int
    worker_bytes: Mapping[str, float]
    handed_out: float
    head_hours: float
    head_bytes: float
    fed_workers: float


def needs_of(name: str, shape: Sequence[int], constants: Constants) -> Needs:
    """Return the needs of the run of a volume, `shape` z, y, x in voxels."""
    voxels, blocks = math.prod(shape), whole_lattice(shape, (constants.block_voxels,) * 3).touching
    fragments, laws = voxels * constants.fragments_a_voxel, constants.open_rows
    surface = _levels(shape, constants, laws[SIMULATED])
    levels = _levels(shape, constants, laws[AFFINITIES]) if AFFINITIES in laws else surface
    lookup_hours = fragments * constants.lookup_seconds / _HOUR_S
    core_hours = {stage: voxels * seconds / _HOUR_S for stage, seconds in constants.stage_seconds.items()}
    core_hours["agglomeration"] = sum(level.rows for level in levels) * constants.row_seconds / _HOUR_S
    core_hours["lookup"] = lookup_hours
    handed_out = blocks * sum(constants.stage_blocks.values()) + sum(level.groups for level in levels) + 1
    head_hours = handed_out * constants.head_seconds_a_block / _HOUR_S
    return Needs(
        name=name,
        shape=tuple(shape),
        voxels=voxels,
        blocks=blocks,
        fragments=fragments,
        rows=levels[0].rows,
        levels=levels,
        core_hours=core_hours,
        serial_hours=levels[-1].group_hours + lookup_hours,
        disk_bytes={artifact: voxels * each for artifact, each in constants.artifact_bytes.items()},
        files=blocks * sum(constants.artifact_files.values()),
        most_entries=entries_of_a_folder(blocks),
        worker_bytes={
            "blocks": float(constants.block_peak_mib * 2**20),
            "last group": levels[-1].group_bytes,
            "last group, simulated": surface[-1].group_bytes,
            "lookup": constants.lookup_memory.at(fragments),
        },
        handed_out=handed_out,
        head_hours=head_hours,
        head_bytes=constants.head_memory.at(blocks),
        fed_workers=sum(core_hours.values()) / head_hours,
    )


def cube(voxels: float) -> tuple[int, int, int]:
    """Return the shape of a cube of about this many voxels."""
    edge = round(voxels ** (1 / 3))
    return edge, edge, edge


def entries_of_a_folder(blocks: int) -> int:
    """Return the most files and folders that a folder of tables has: as many of each as FILES_A_FOLDER."""
    folders = max(0, -(-blocks // FILES_A_FOLDER) - 1)
    return min(blocks, FILES_A_FOLDER) + min(folders, FILES_A_FOLDER)


def _levels(shape: Sequence[int], constants: Constants, law: Law) -> tuple[Level, ...]:
    """Return the levels of groups, first the smallest groups."""
    rows, found = math.prod(shape) * constants.rows_a_voxel, []
    open_rows = rows
    for lattice, layers in layers_of(shape, constants.block_voxels, constants.fragments_a_voxel ** (-1 / 3)):
        group_rows = open_rows / lattice.touching
        found.append(
            Level(
                groups=lattice.touching,
                rows=open_rows,
                group_rows=group_rows,
                group_hours=group_rows * constants.row_seconds / _HOUR_S,
                group_bytes=constants.group_memory.at(group_rows),
            )
        )
        open_rows = rows * law.share(layers)
    return tuple(found)
