"""Raw values of any type -> uint8: one rule, whether a volume is imported first or scaled on read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def scaled(values: NDArray[Any], value_range: tuple[float, float]) -> NDArray[np.uint8]:
    """Return values as uint8: `low` becomes 0, `high` 255, values beyond are clipped, values between rounded.

    Where `low` is larger than `high` the result is exactly 255 minus that of the range the other way round.
    """
    low, high = value_range
    if low > high:
        return 255 - scaled(values, (high, low))
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        # Looking up each of at most 65536 values is several times faster than computing it.
        table = scaled(np.arange(np.iinfo(values.dtype).max + 1, dtype=np.float64), value_range)
        return np.take(table, values)
    relative = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    return np.rint(relative * 255).astype(np.uint8)


def inverted(value_range: tuple[float, float] | None) -> tuple[float, float]:
    """Return the range that turns bright into dark; None stands for uint8 as it is."""
    low, high = value_range or (0.0, 255.0)
    return (high, low)
