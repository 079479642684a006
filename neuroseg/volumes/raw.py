"""The raw volume as uint8, for prediction. Other types are scaled on read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.chunk_cache import bytes_of_chunks, cached_read
from neuroseg.volumes.scaling import inverted, scaled
from neuroseg.volumes.selection import WHOLE_FILE, Selection
from neuroseg.volumes.volume import Volume

ReadRaw = Callable[[Roi], NDArray[np.uint8]]


@dataclass(frozen=True)
class RawSource:
    """The address of raw and the `value_range` that maps to 0 and 255. None for uint8 without scaling."""

    path: str
    level: int
    voxel_size_nm: Nanometres
    offset_nm: Nanometres
    value_range: tuple[float, float] | None
    identity: str
    selection: Selection = WHOLE_FILE

    def volume(self) -> Volume:
        """Return the volume with its stored values."""
        return open_any(self.path, level=self.level, voxel_size_nm=self.voxel_size_nm, selection=self.selection)

    def open(self, kept: Sequence[int] | None = None, threads: int = 1) -> ReadRaw:
        """Return the function that reads a region as uint8 `(z, y, x)`.

        With the shape of regions in `kept`, the chunks of one region stay in memory for the next one. Several `threads`
        decode them.
        """
        volume = self.volume()
        value_range = self.value_range

        def read(roi: Roi) -> NDArray[np.uint8]:
            values = volume.read(roi)
            if value_range is None:
                return values.astype(np.uint8, copy=False)
            require_finite(values, volume.path, roi.begin)
            return scaled(values, value_range)

        if kept is None or volume.chunks is None or volume.dtype.kind != "u":
            return read  # do not read beyond the region: a value that is not finite must fail in its own block
        size = bytes_of_chunks(kept, volume.chunks, 1)
        return cached_read(
            read, shape=volume.shape, chunk=volume.chunks, voxel_bytes=1, kept_bytes=size, threads=threads
        )


def require_finite(values: NDArray[Any], path: str, begin: Sequence[int]) -> None:
    """Raise InputError that names the first voxel that is not finite. `values` (z, y, x) begin at voxel `begin`."""
    finite = np.isfinite(values)
    if finite.all():
        return
    at = np.unravel_index(int(finite.argmin()), values.shape)
    place = ", ".join(str(int(start + step)) for start, step in zip(begin, at, strict=True))
    raise InputError(
        f"{path}: voxel ({place}) (z, y, x) is {values[at]:g}, expected finite values",
        hint="replace NaN and infinite voxels in the volume, for example by 0",
    )


def checked_range(
    volume: Volume, value_range: tuple[float, float] | None, *, invert: bool = False
) -> tuple[float, float] | None:
    """Return the range that maps to 0 and 255, or None for uint8 without scaling.

    Raises InputError for types that are not raw, for float without a range, and for values that are not finite.
    """
    value_range = _range_of(volume, value_range)
    return inverted(value_range) if invert else value_range


def _range_of(volume: Volume, value_range: tuple[float, float] | None) -> tuple[float, float] | None:
    if volume.dtype == np.uint8:
        return value_range
    if volume.dtype == np.uint16:
        return value_range or (0.0, 65535.0)
    if volume.dtype.kind == "f":
        if value_range is None:
            raise InputError(
                f"{volume.path} contains {volume.dtype} values without a range",
                hint="give the values that become black (0) and white (255): --range LOW HIGH",
            )
        for roi in volume.checked_regions():
            require_finite(volume.read(roi), volume.path, roi.begin)
        return value_range
    raise InputError(f"{volume.path} contains {volume.dtype} values, expected raw of type uint8, uint16 or float")
