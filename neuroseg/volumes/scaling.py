"""Raw values of any type -> uint8. Import and scaling on read give the same values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def scaled(values: NDArray[Any], value_range: tuple[float, float]) -> NDArray[np.uint8]:
    """Return values as uint8: `low` becomes 0, `high` 255. Values between are rounded, values outside are clipped.

    If `low` is larger than `high`, the result is exactly 255 minus the result of the range (`high`, `low`).
    """
    low, high = value_range
    if low > high:
        return 255 - scaled(values, (high, low))
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        # A table of at most 65536 values is several times faster than computing each voxel.
        table = scaled(np.arange(np.iinfo(values.dtype).max + 1, dtype=np.float64), value_range)
        return np.take(table, values)
    relative = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    return np.rint(relative * 255).astype(np.uint8)


def inverted(value_range: tuple[float, float] | None) -> tuple[float, float]:
    """Return the range that swaps bright and dark. None stands for uint8 without scaling, 0 to 255."""
    low, high = value_range or (0.0, 255.0)
    return (high, low)
