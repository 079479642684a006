"""An array on disk or on a server, read when it is indexed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from neuroseg.geometry import Nanometres


@dataclass(frozen=True, eq=False)
class LazyArray:
    """An array `(z, y, x)`, or with channels first, with its position. Indexing, such as `array[10]`, reads that part.

    `voxel_size_nm` is (z, y, x). `offset_nm` is the centre of the first voxel.
    """

    stored: Any
    voxel_size_nm: Nanometres
    offset_nm: Nanometres

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis, channels first."""
        return tuple(self.stored.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the voxels."""
        dtype: np.dtype[Any] = np.dtype(self.stored.dtype)
        return dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return np.asarray(self.stored[index])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)
