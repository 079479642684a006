"""Whether values look like labels or like an image: one that was given for the other is refused."""

from __future__ import annotations

import numpy as np

from neuroseg.errors import InputError
from neuroseg.storage.volumes import Volume

_LEAST_PAIRS = 4096
# Of neighbouring voxels along x that hold the same value: labels of neuropil 0.86 to 0.96, raw 0.02 to 0.05, a
# probability of borders 0.33 (measured on FIB-25 and ISBI 2012).
_AS_IN_LABELS = 0.5


def require_labels(labels: Volume) -> None:
    """Raise InputError for labels whose values are not whole numbers, or change from voxel to voxel as raw does."""
    if labels.dtype.kind not in "iub":
        raise InputError(
            f"labels {labels.path} hold {labels.dtype} values; whole numbers, the ids of objects, are expected"
        )
    found = equal_neighbours(labels)
    if found is not None and found < _AS_IN_LABELS:
        raise InputError(
            f"labels {labels.path} look like raw: {found:.0%} of neighbouring voxels hold the same value, in labels "
            f"more than {_AS_IN_LABELS:.0%} do; give raw first, then the labels of objects"
        )


def require_raw(raw: Volume) -> None:
    """Raise InputError for raw that is not 8 bits, or whose values look like the ids of objects."""
    found = equal_neighbours(raw)
    if raw.dtype.itemsize > 1 and found is not None and found > _AS_IN_LABELS:
        raise InputError(
            f"raw {raw.path} looks like labels: it holds {raw.dtype} values, and {found:.0%} of neighbouring voxels "
            "hold the same; give raw first, then labels"
        )
    if raw.dtype != np.uint8:
        raise InputError(f"raw {raw.path} holds {raw.dtype} values; import it to uint8 first (neuroseg import)")


def equal_neighbours(volume: Volume) -> float | None:
    """Return which share of the neighbours along x in samples of a volume are equal; None where they are too few."""
    equal = count = 0
    for roi in volume.samples():
        values = volume.read(roi)
        same = values[..., 1:] == values[..., :-1]
        equal, count = equal + int(np.count_nonzero(same)), count + same.size
    return equal / count if count >= _LEAST_PAIRS else None
