"""The raw volume as prediction reads it: uint8 in place, or scaled on read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.errors import InputError, NeurosegError
from neuroseg.geometry import Nanometres, describe
from neuroseg.storage.files import open_any
from neuroseg.storage.scaling import scaled
from neuroseg.storage.volumes import Volume


@dataclass(frozen=True)
class RawSource:
    """Where raw lies and how its values map to 0-255; `value_range` is None for uint8."""

    path: str
    level: int
    voxel_size_nm: Nanometres
    offset_nm: Nanometres
    value_range: tuple[float, float] | None
    identity: str

    def open(self) -> Callable[[Roi], NDArray[np.uint8]]:
        """Return the function that reads a region as uint8 `(z, y, x)`."""
        volume = open_any(self.path, level=self.level, voxel_size_nm=self.voxel_size_nm)
        value_range = self.value_range

        def read(roi: Roi) -> NDArray[np.uint8]:
            values = volume.read(roi)
            if value_range is None:
                return values.astype(np.uint8, copy=False)
            if not np.isfinite(values).all():
                raise NeurosegError(f"{volume.path} at {describe(roi)}: raw holds values that are not finite")
            return scaled(values, value_range)

        return read


def checked_range(volume: Volume, value_range: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the range that maps to 0-255, None for uint8; raises InputError for types that are not raw."""
    if volume.dtype == np.uint8:
        return value_range
    if volume.dtype == np.uint16:
        return value_range or (0.0, 65535.0)
    if volume.dtype.kind == "f":
        if value_range is None:
            raise InputError(f"{volume.path} holds {volume.dtype} values; say which map to 0 and 255: --range LOW HIGH")
        return value_range
    raise InputError(f"{volume.path} holds {volume.dtype} values; raw must be uint8, uint16 or float")
