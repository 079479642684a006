"""Random TIFF stacks, and how tests read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.volumes.selection import WHOLE_FILE, Selection
from neuroseg.volumes.stacks import open_stack

SIZES = {"T": 2, "Z": 5, "C": 3, "Y": 16, "X": 24}


def values_of(axes: str, dtype: str = "uint16") -> NDArray[Any]:
    """Return random values with these axes."""
    return np.random.default_rng(0).integers(0, 255, [SIZES[axis] for axis in axes], dtype)


def read(path: Path, selection: Selection = WHOLE_FILE) -> NDArray[Any]:
    """Return the stack in a file or folder."""
    stack = open_stack([str(path)], selection)
    values = stack[:, :, :]
    stack.close()
    return values
