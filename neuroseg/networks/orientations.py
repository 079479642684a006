"""The 48 orientations of a cube, or the 16 that keep z for anisotropic voxels, applied to arrays and descriptors."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PAIRS = ((0, 1), (0, 2), (1, 2))


@dataclass(frozen=True)
class Orientation:
    """A permutation of the axes, then flips of the axes for which `flips` is true."""

    permutation: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def source_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the shape of an array whose oriented copy has `shape`."""
        source = [0, 0, 0]
        for axis, origin in enumerate(self.permutation):
            source[origin] = shape[axis]
        return (source[0], source[1], source[2])

    def turned(self, offset: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the offset between two voxels after the turn."""
        z, y, x = (-offset[o] if flip else offset[o] for o, flip in zip(self.permutation, self.flips, strict=True))
        return (z, y, x)

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the oriented view of an array with the last three axes z, y, x."""
        lead = array.ndim - 3
        order = [*range(lead), *(lead + axis for axis in self.permutation)]
        steps = [slice(None)] * lead + [slice(None, None, -1 if flip else 1) for flip in self.flips]
        oriented: NDArray[Any] = array.transpose(order)[tuple(steps)]
        return oriented

    def apply_to_descriptors(self, descriptors: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return oriented shape descriptors `(10, z, y, x)`. Their vector components turn with the axes."""
        moved = self.apply(descriptors)
        out = np.empty(moved.shape, np.float32)
        signs = [-1.0 if flip else 1.0 for flip in self.flips]
        for axis, origin in enumerate(self.permutation):
            out[axis] = signs[axis] * moved[origin]
            out[3 + axis] = moved[3 + origin]
        for index, (first, second) in enumerate(_PAIRS):
            origin = _PAIRS.index(
                (
                    min(self.permutation[first], self.permutation[second]),
                    max(self.permutation[first], self.permutation[second]),
                )
            )
            out[6 + index] = signs[first] * signs[second] * moved[6 + origin]
        out[9] = moved[9]
        return out


def orientations(which: str) -> list[Orientation]:
    """Return orientations of a cube: `all` 48, the 16 `in_plane` that keep the z axis, or only `as_it_lies`."""
    if which == "as_it_lies":
        return [Orientation((0, 1, 2), (False, False, False))]
    permutations = [p for p in itertools.permutations(range(3)) if which == "all" or p[0] == 0]
    return [
        Orientation((p[0], p[1], p[2]), (f[0], f[1], f[2]))
        for p in permutations
        for f in itertools.product((False, True), repeat=3)
    ]
