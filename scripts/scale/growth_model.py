"""Measurements -> constants, the needs of some volumes, and the limits that they reach, as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from measured_constants import Constants, Rows, constants_of, quality_of_fit
from volume_limits import Machine, limits_of, reached
from volume_model import cube, needs_of

KASTHURI15, PETAVOXEL = "Kasthuri15", "1 Pvoxel"
_KASTHURI15_VOXELS = (1850, 12895, 10747)
_SIZES = {"1 Gvoxel": 1e9, "10 Gvoxel": 1e10, "100 Gvoxel": 1e11, "1 Tvoxel": 1e12, "10 Tvoxel": 1e13,
          "100 Tvoxel": 1e14, PETAVOXEL: 1e15}  # fmt: skip
_SHORTEST, _LONGEST, _CUBES = 1e9, 1e17, 65


def modelled(rows: Rows, machine: Machine) -> dict[str, Any]:
    """Return constants, quality of the fit, needs of volumes by size, of a line of cubes, and limits by size."""
    constants = constants_of(rows)
    volumes = [needs_of(name, cube(voxels), constants) for name, voxels in _SIZES.items()]
    volumes.append(needs_of(KASTHURI15, _KASTHURI15_VOXELS, constants))
    volumes.sort(key=lambda needs: needs.voxels)
    return {
        "constants": dataclasses.asdict(constants),
        "machine": dataclasses.asdict(machine),
        "fit": quality_of_fit(rows),
        "volumes": [dataclasses.asdict(needs) for needs in volumes],
        "cubes": _line_of_cubes(constants),
        "limits": reached(limits_of(machine), lambda voxels: needs_of("cube", cube(voxels), constants)),
    }


def _line_of_cubes(constants: Constants) -> list[dict[str, Any]]:
    """Return the needs of cubes of all sizes, for a plot."""
    steps = (_SHORTEST * (_LONGEST / _SHORTEST) ** (step / (_CUBES - 1)) for step in range(_CUBES))
    return [dataclasses.asdict(needs_of("cube", cube(voxels), constants)) for voxels in steps]
