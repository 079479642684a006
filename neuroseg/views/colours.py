"""Label ids -> colours. An id has the same colour everywhere. A correct segment has the colour of its true object."""

from __future__ import annotations

from itertools import count

import numpy as np
from numpy.typing import NDArray

from neuroseg.evaluation.contingency import contingency
from neuroseg.tables import Table

# 2**64 over the golden ratio, odd: multiples wrapped at 2**64 stay far apart (Knuth, TAOCP volume 3, 6.4).
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
SATURATIONS = np.array([0.85, 0.6, 1.0])
BRIGHTNESSES = np.array([1.0, 0.88, 0.95, 0.78])


def colours_of(ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return a colour for each id, `(*shape, 4)`: red, green, blue and opacity, 0 to 1. Id 0 is transparent.

    Hues of consecutive ids are far apart (golden ratio). Saturation and brightness also differ.
    """
    numbers = ids.astype(np.uint64)
    hue = (numbers * GOLDEN).astype(np.float64) / 2.0**64
    saturation, brightness = SATURATIONS[numbers % 3], BRIGHTNESSES[numbers % 4]
    colours = np.empty((*ids.shape, 4))
    for channel, turn in enumerate((5, 3, 1)):
        # HSV to RGB: each channel is at its maximum over one part of the hue circle, and falls to its minimum.
        place = (turn + 6 * hue) % 6
        colours[..., channel] = brightness * (1 - saturation * np.clip(np.minimum(place, 4 - place), 0, 1))
    colours[..., 3] = numbers != 0
    return colours


def named_as_truth(segmentation: NDArray[np.integer], truth: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Return `segmentation` with ids of `truth`, so that `colours_of` gives a correct segment its object's colour.

    A segment gets the id of the true object that it overlaps most, if it is also the largest part of that object. Other
    segments get ids that are not in `truth`. Both arrays must have the same shape. 0 stays 0.
    """
    present, rows = np.unique(segmentation, return_inverse=True)
    return ids_as_truth(present, contingency(segmentation, truth))[rows].reshape(segmentation.shape)


def ids_as_truth(segments: NDArray[np.integer], table: Table) -> NDArray[np.uint64]:
    """Return the ids `(n,)` that `named_as_truth` gives to segments. `table`: their contingency with the truth."""
    names, true_ids = _matches(table), set(np.unique(table["truth"]).tolist()) - {0}
    used = true_ids.union(segments.tolist())
    unused = (number for number in count(1) if number not in used)
    found = [names.get(i) or (next(unused) if i in true_ids else i) for i in segments.tolist()]
    return np.array(found, np.uint64)


def _matches(table: Table) -> dict[int, int]:
    """Return pairs segment id -> truth id in which each id overlaps the other one most."""
    segment, true, voxels = (table[name][table["segment"] != 0] for name in ("segment", "truth", "count"))
    best_truth, best_segment = _best(segment, true, voxels), _best(true, segment, voxels)
    return {segment: true for segment, true in best_truth.items() if best_segment[true] == segment}


def _best(of: NDArray[np.uint64], among: NDArray[np.uint64], voxels: NDArray[np.uint64]) -> dict[int, int]:
    """Return for each id in `of` the id in `among` with the most common voxels. If several are equal, the lowest id."""
    # The last row of an id wins; the complement of an unsigned id sorts the other way round.
    order = np.lexsort((~among, voxels))
    return dict(zip(of[order].tolist(), among[order].tolist(), strict=True))
