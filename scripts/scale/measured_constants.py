"""The JSON of measurements -> constants for each voxel, row, fragment and block.

Times, bytes and files grow with the volume: their constants come from the largest measurement. Memory grows along a
straight line through all measurements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from open_rows import LEAST_LEVELS, Law, Measured, best_form, deviations, fitted, fragment_edge, layers_of

Row = Mapping[str, Any]
Rows = Sequence[Row]

_MIB = 2**20
AFFINITIES, SIMULATED = "affinities", "simulated edges"
_EXECUTOR = "local"
# Commands of scripts/bench_head.py that run blocks.
_RUNS = ("fresh", "finished", "finished again", "resumed")


class UnusableError(ValueError):
    """A measurement is missing."""


@dataclass(frozen=True)
class Line:
    """value = base + slope x size. `worst` is the largest deviation of a measurement, relative to it."""

    base: float
    slope: float
    measurements: int
    worst: float

    def at(self, size: float) -> float:
        """Return the value for a size."""
        return self.base + self.slope * size


@dataclass(frozen=True)
class Constants:
    """The constants of the model: bytes, and seconds of one worker, for each voxel, row, fragment or block.

    `stage_seconds`, `artifact_bytes`: for each voxel. `artifact_files`, `stage_blocks`: for each block, which is
    `block_voxels` long. `block_peak_mib`: the largest worker of the stages of blocks. `open_rows`: by what was
    measured, AFFINITIES or SIMULATED edges.
    """

    block_voxels: int
    fragments_a_voxel: float
    rows_a_voxel: float
    stage_seconds: Mapping[str, float]
    stage_blocks: Mapping[str, float]
    artifact_bytes: Mapping[str, float]
    artifact_files: Mapping[str, float]
    block_peak_mib: int
    row_seconds: float
    lookup_seconds: float
    group_memory: Line
    lookup_memory: Line
    head_memory: Line
    head_seconds_a_block: float
    open_rows: Mapping[str, Law]


def constants_of(rows: Rows) -> Constants:
    """Return the constants of measurements. Raises UnusableError if a kind of measurement is missing."""
    tables, pipeline, schedulers = tables_in(rows), pipeline_in(rows), _schedulers_in(rows)
    largest, by_name = pipeline[-1], {name: row for row in pipeline for name in row["artifacts"]}
    by_stage = {name: row for row in pipeline for name in row["worker_seconds_by_stage"]}
    in_memory = [row for row in tables if row["memory"] is None]
    return Constants(
        block_voxels=largest["block_voxels"],
        fragments_a_voxel=largest["fragments"] / _voxels(largest),
        rows_a_voxel=largest["rows_of_edges"] / _voxels(largest),
        stage_seconds={
            name: _seconds_of_workers(row, name) / _voxels(row) for name, row in by_stage.items() if _is_of_blocks(name)
        },
        stage_blocks={
            name: row["blocks_by_stage"][name] / row["blocks"] for name, row in by_stage.items() if _is_of_blocks(name)
        },
        artifact_bytes={name: row["artifacts"][name]["bytes"] / _voxels(row) for name, row in by_name.items()},
        artifact_files={name: row["artifacts"][name]["files"] / row["blocks"] for name, row in by_name.items()},
        block_peak_mib=max(row["worker_peak_mib"] for row in pipeline),
        row_seconds=seconds_a_row(tables[-1]),
        lookup_seconds=tables[-1]["lookup_seconds"] / tables[-1]["fragments"],
        group_memory=_line([(row["rows_read_by_level"][-1], row["worker_peak_mib"] * _MIB) for row in in_memory]),
        lookup_memory=_line([(row["fragments"], row["lookup_peak_mib"] * _MIB) for row in in_memory]),
        head_memory=_line(_head_peaks(rows)),
        head_seconds_a_block=max(row["seconds_per_1000_blocks"] for row in schedulers) / 1000,
        open_rows={name: fitted(shares, best_form(shares)) for name, shares in _shares_by_source(rows).items()},
    )


def tables_in(rows: Rows) -> list[Row]:
    """Return the measurements of one worker that agglomerates simulated tables, by size."""
    found = [row for row in rows if "lookup_seconds" in row and row["workers"] == 1]
    return _sorted(found, "fragments", 2, "scripts/scale agglomeration")


def pipeline_in(rows: Rows) -> list[Row]:
    """Return the measurements of the pipeline by size, first those with prediction."""
    found = _sorted([row for row in rows if "worker_seconds_by_stage" in row], "mvoxel", 1, "scripts/scale pipeline")
    return sorted(found, key=lambda row: row["kind"] != "raw")


def _schedulers_in(rows: Rows) -> list[Row]:
    found = [row for row in rows if row.get("executor") == _EXECUTOR]
    return _sorted(found, "blocks", 1, "scripts/bench_schedulers.py")


def _head_peaks(rows: Rows) -> list[tuple[float, float]]:
    """Return numbers of blocks of a stage, and the largest memory of a head in bytes that distributes as many."""
    found = _sorted([row for row in rows if row.get("command") in _RUNS], "blocks", 2, "scripts/bench_head.py")
    return [
        (blocks, max(row["peak_mib"] for row in found if row["blocks"] == blocks) * _MIB)
        for blocks in sorted({row["blocks"] for row in found})
    ]


def _sorted(found: list[Row], key: str, least: int, command: str) -> list[Row]:
    if len({row[key] for row in found}) < least:
        raise UnusableError(f"found {len(found)} measurements of {command}, expected {least} of different size")
    return sorted(found, key=lambda row: row[key])


def seconds_a_row(row: Row) -> float:
    """Return the seconds of one worker for each row that a group reads."""
    return float(row["seconds"] / sum(row["rows_read_by_level"]))


def _shares_by_source(rows: Rows) -> dict[str, Measured]:
    """Return what was measured of AFFINITIES, if there are enough levels, and of SIMULATED edges."""
    by_source = {AFFINITIES: open_shares(pipeline_in(rows)), SIMULATED: open_shares(tables_in(rows))}
    return {name: shares for name, shares in by_source.items() if len(shares) >= LEAST_LEVELS}


def open_shares(tables: Rows) -> Measured:
    """Return the layers that groups left open, and the share of all rows that lies in them."""
    found = []
    for row in tables:
        levels = layers_of(row["shape"], row["block_voxels"], fragment_edge(row["shape"], row["fragments"]))
        counts = row["rows_read_by_level"]
        found += [(layers, read / counts[0]) for (_, layers), read in zip(levels, counts[1:], strict=False)]
    return found


def quality_of_fit(rows: Rows) -> dict[str, Any]:
    """Return how well the rows of groups are known, by source.

    `grows_like`: the form of the law. `deviations`: of the law from each measured level. `from_smaller`: of a law of
    all but the largest measurement from the levels of the largest one.
    """
    sources = {AFFINITIES: pipeline_in(rows), SIMULATED: tables_in(rows)}
    found = {}
    for name, shares in _shares_by_source(rows).items():
        form = best_form(shares)
        largest = max(sources[name], key=lambda row: row["rows_read_by_level"][0])
        others = open_shares([row for row in sources[name] if row is not largest])
        enough = len(others) >= LEAST_LEVELS
        found[name] = {
            "grows_like": form,
            "levels": len(shares),
            "deviations": _rounded(deviations(fitted(shares, form), shares)),
            "from_smaller": _rounded(deviations(fitted(others, form), open_shares([largest]))) if enough else [],
        }
    return found


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]


def _seconds_of_workers(row: Row, stage: str) -> float:
    """Return the share of a stage of the time of all workers, with their start and with waiting."""
    spent = row["worker_seconds_by_stage"]
    return float(row["seconds"] * row["workers"] * spent[stage] / sum(spent.values()))


def _is_of_blocks(stage: str) -> bool:
    """Return whether the blocks of a stage are parts of the volume."""
    return not stage.startswith(("agglomeration", "lookup"))


def _voxels(row: Row) -> int:
    return math.prod(row["shape"])


def _line(points: Sequence[tuple[float, float]]) -> Line:
    """Return the line through measurements of two or more sizes, with the least squares."""
    sizes, values = np.array(points, float).T
    if len(set(sizes)) < 2:
        raise UnusableError("found memory of one size, expected two sizes or more")
    slope, base = np.polyfit(sizes, values, 1)
    worst = np.abs((base + slope * sizes) / values - 1).max()
    return Line(float(base), float(slope), len(points), round(float(worst), 3))
