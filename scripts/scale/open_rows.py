"""Rows of edges that groups leave to larger groups: measured shares -> a law for any volume.

A group merges what is far from its inner faces, and leaves the rest. So most of what the groups of a level leave lies
in layers around the planes between them, and grows like a surface. Regions that reach a plane wait, and with them their
neighbours, which may be far from it. This part grows like the volume. With `faces` planes along an axis:

    share of all rows = 1 - (1 - waiting) x product over the axes of (1 - faces x thickness / length)

All lengths are in fragments: the edge of a cube that has the mean volume of a fragment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from neuroseg.agglomeration.block_groups import group_lattices
from neuroseg.blocks import Lattice, whole_lattice


@dataclass(frozen=True)
class Layers:
    """The planes between the groups of a level. `lengths` of the volume and `width` of the groups in fragments."""

    lengths: tuple[float, ...]
    faces: tuple[int, ...]
    width: float

    def share(self, thickness: float) -> float:
        """Return the share of the volume that lies in layers of this thickness, in fragments."""
        free = (1 - number * thickness / length for number, length in zip(self.faces, self.lengths, strict=True))
        return 1 - math.prod(max(0.0, each) for each in free)


@dataclass(frozen=True)
class Law:
    """thickness = `thickness` - `narrower` / width, in fragments, and the share of all rows that wait elsewhere."""

    waiting: float
    thickness: float
    narrower: float

    def share(self, layers: Layers) -> float:
        """Return the share of all rows that the groups leave. 0 without planes."""
        if not any(layers.faces):
            return 0.0
        return 1 - (1 - self.waiting) * (1 - layers.share(max(0.0, self.thickness - self.narrower / layers.width)))


def layers_of(shape: Sequence[int], blocks: int, fragment_voxels: float) -> list[tuple[Lattice, Layers]]:
    """Return the groups of each level of a volume, and the planes between them. The last level has none."""
    lengths = tuple(size / fragment_voxels for size in shape)
    return [
        (
            lattice,
            Layers(lengths, tuple(count - 1 for count in lattice.counts), lattice.block_shape[0] / fragment_voxels),
        )
        for lattice in group_lattices(whole_lattice(shape, (blocks,) * 3))
    ]


def fragment_edge(shape: Sequence[int], fragments: int) -> float:
    """Return the edge of a cube that has the mean volume of a fragment, in voxels."""
    return float((math.prod(shape) / fragments) ** (1 / 3))


Measured = Sequence[tuple[Layers, float]]
"""Layers, and the share of all rows that was measured in them."""


SURFACE, VOLUME = "a surface", "a surface and a volume"
# Which numbers of a law are free: `waiting`, `thickness`, `narrower`. Two, since only some levels are measured.
_FREE: Mapping[str, tuple[bool, bool, bool]] = {SURFACE: (False, True, True), VOLUME: (True, True, False)}
_START = np.array([0.01, 6.0, 1.0])
_MOST = np.array([1.0, np.inf, np.inf])
LEAST_LEVELS = 3


def fitted(measured: Measured, form: str) -> Law:
    """Return the law of this form with the least squares of the deviations."""
    free = np.array(_FREE[form])

    def law(values: NDArray[np.float64]) -> Law:
        numbers = np.zeros(len(free))
        numbers[free] = values
        return Law(*numbers.tolist())

    found = least_squares(
        lambda values: deviations(law(values), measured), _START[free], bounds=(np.zeros(2), _MOST[free])
    )
    return law(found.x)


def deviations(law: Law, measured: Measured) -> list[float]:
    """Return how far the law is off each measured share, relative to it."""
    return [law.share(layers) / share - 1 for layers, share in measured]


def best_form(measured: Measured) -> str:
    """Return the form whose law has the smallest largest deviation."""
    return min(_FREE, key=lambda form: max(map(abs, deviations(fitted(measured, form), measured))))
