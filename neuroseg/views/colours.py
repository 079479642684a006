"""Label ids -> colours: the same id has the same colour everywhere, and a right segment has its truth's colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.evaluation.contingency import contingency

# 2**64 over the golden ratio, odd: multiples wrapped at 2**64 stay far apart (Knuth, TAOCP volume 3, 6.4).
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
SATURATIONS = np.array([0.85, 0.6, 1.0])
BRIGHTNESSES = np.array([1.0, 0.88, 0.95, 0.78])


def colours_of(ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return a bright colour of each id, its shape plus `(4,)`: red, green, blue, opacity in 0 to 1; id 0 is clear.

    Consecutive ids differ in hue by a golden section of the circle, and in saturation and brightness.
    """
    numbers = ids.astype(np.uint64)
    hue = (numbers * GOLDEN).astype(np.float64) / 2.0**64
    saturation, brightness = SATURATIONS[numbers % 3], BRIGHTNESSES[numbers % 4]
    colours = np.empty((*ids.shape, 4))
    for channel, turn in enumerate((5, 3, 1)):
        # The hue circle unrolled: each channel is full for half of it and falls to the grey part on the other half.
        place = (turn + 6 * hue) % 6
        colours[..., channel] = brightness * (1 - saturation * np.clip(np.minimum(place, 4 - place), 0, 1))
    colours[..., 3] = numbers != 0
    return colours


def named_as_truth(segmentation: NDArray[np.integer], truth: NDArray[np.integer]) -> dict[int, int]:
    """Return segment id -> the truth id whose colour it takes: each is the one the other overlaps most.

    Segments that are no truth's largest part are missing, and so is id 0. Both arrays have one shape.
    """
    table = contingency(segmentation, truth)
    segment, true, count = (table[name][table["segment"] != 0].astype(np.int64) for name in table)
    best_truth = _best(segment, true, count)
    best_segment = _best(true, segment, count)
    return {segment: true for segment, true in best_truth.items() if best_segment[true] == segment}


def _best(of: NDArray[np.int64], among: NDArray[np.int64], count: NDArray[np.int64]) -> dict[int, int]:
    """Return for each id in `of` the id in `among` of the row with the highest count; of equals, the lowest id."""
    order = np.lexsort((-among, count))
    return dict(zip(of[order].tolist(), among[order].tolist(), strict=True))


def renamed(ids: NDArray[np.integer], names: dict[int, int]) -> NDArray[np.uint64]:
    """Return `ids` with those in `names` exchanged; an id that is not but equals a name gets another one.

    So two ids share a colour only if `names` says so.
    """
    present, rows = np.unique(ids, return_inverse=True)
    taken = set(names.values()) - {0}
    # Ids beyond every id in use: as far apart in colour as any others.
    free = max([int(present.max(initial=0)), *taken, 0]) + 1
    table = np.array(
        [names.get(i, i + free if i in taken and i not in names else i) for i in present.tolist()], np.uint64
    )
    return table[rows].reshape(ids.shape)
