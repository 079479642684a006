"""The baseline in memory: watershed from the maxima of the boundary distance, then mean agglomeration by waterz."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator

import numpy as np
import waterz
import zarr
from cube import Cube
from numpy.typing import NDArray
from report import Row, timed
from scipy import ndimage
from skimage.segmentation import watershed

_SEED_DISTANCE_VOXELS = 10
_THRESHOLD = 0.5


def measure(data: Cube, repeat: int) -> list[Row]:
    """Return the times of watershed and agglomeration, from zarr to an array."""
    fragments_s, agglomeration_s = [], []
    for _ in range(repeat):
        began = time.perf_counter()
        affinities = np.asarray(zarr.open_array(str(data.affinities), mode="r")[:]).astype(np.float32) / 255
        fragments = seeded_watershed(affinities)
        watershed_done = time.perf_counter()
        with _silenced_stdout():
            next(iter(waterz.agglomerate(affinities, [_THRESHOLD], None, fragments)))
        fragments_s.append(watershed_done - began)
        agglomeration_s.append(time.perf_counter() - watershed_done)
    together = [a + b for a, b in zip(fragments_s, agglomeration_s, strict=True)]
    return [
        timed("in memory", "read, seeded watershed", fragments_s, data.voxels),
        timed("in memory", "waterz, mean", agglomeration_s, data.voxels),
        timed("in memory", "end to end", together, data.voxels),
    ]


def seeded_watershed(affinities: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return fragments 1..n of affinities (3, z, y, x). The seeds are maxima of the distance to the boundary."""
    inside = affinities.mean(0) > 0.5
    distance = ndimage.distance_transform_edt(inside).astype(np.float32)
    maxima = (ndimage.maximum_filter(distance, _SEED_DISTANCE_VOXELS) == distance) & inside
    seeds, _ = ndimage.label(maxima)
    return watershed(-distance, seeds).astype(np.uint64)


@contextlib.contextmanager
def _silenced_stdout() -> Iterator[None]:
    """Discard what C++ code prints to stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
