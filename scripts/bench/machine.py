"""The upper limit of this machine: rates of copying memory, and of encoding and decoding the stored arrays."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import zarr
from cube import Cube
from numcodecs import Zstd
from numpy.typing import NDArray
from report import Row, timed

from neuroseg.fragments.settings import BasinSettings
from neuroseg.runs.in_memory import fragments_and_tables
from neuroseg.volumes.affinity_source import BOUNDARY_OFFSETS

_EDGE = 128
_COPY_BYTES = 256 * 2**20
_CHUNK = 64


def measure(data: Cube, repeat: int) -> list[Row]:
    """Return the rates of memory and codec (zstd, level 1, chunks of 64^3, like the stored arrays)."""
    source = np.ones(_COPY_BYTES, np.uint8)
    target = np.empty_like(source)
    rows = [_row("memory copy", _COPY_BYTES, lambda: np.copyto(target, source), repeat)]
    affinities = np.asarray(zarr.open_array(str(data.affinities), mode="r")[:, :_EDGE, :_EDGE, :_EDGE])
    made = fragments_and_tables(affinities, BOUNDARY_OFFSETS, BasinSettings((10.0, 10.0, 10.0)))
    return rows + _codec_rows("affinities", affinities, repeat) + _codec_rows("fragments", made.fragments, repeat)


def _codec_rows(what: str, values: NDArray[np.generic], repeat: int) -> list[Row]:
    codec = Zstd(level=1)
    cuts = [range(0, size, _CHUNK) for size in values.shape[-3:]]
    chunks = [
        values[..., z : z + _CHUNK, y : y + _CHUNK, x : x + _CHUNK].tobytes()
        for z in cuts[0]
        for y in cuts[1]
        for x in cuts[2]
    ]
    encoded = [codec.encode(chunk) for chunk in chunks]
    smaller = round(values.nbytes / sum(len(chunk) for chunk in encoded), 1)
    return [
        _row(f"encode {what}", values.nbytes, lambda: [codec.encode(chunk) for chunk in chunks], repeat, smaller),
        _row(f"decode {what}", values.nbytes, lambda: [codec.decode(chunk) for chunk in encoded], repeat, smaller),
    ]


def _row(what: str, size: int, act: Callable[[], object], repeat: int, times_smaller: float = 1.0) -> Row:
    act()
    seconds = []
    for _ in range(repeat):
        began = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - began)
    row = timed("machine", what, seconds, size)
    row.values["mb_per_s"] = round(row.values.pop("mvoxel_per_s"))
    row.values["times_smaller"] = times_smaller
    return row
