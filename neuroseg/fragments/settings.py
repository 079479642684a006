"""Names of the methods, parameters of distance basins, and the halo that follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from neuroseg.geometry import Nanometres, Triple, triple

DISTANCE_BASINS, SEEDED_WATERSHED, MUTEX_WATERSHED = "distance-basins", "seeded-watershed", "mutex-watershed"
DISTANCE_WATERSHED = "distance-watershed"
FRAGMENTS = (DISTANCE_BASINS, SEEDED_WATERSHED, DISTANCE_WATERSHED, MUTEX_WATERSHED)

_PER_SECTION_ANISOTROPY = 3.0
SMOOTHING_SUM = 256
# Heights are 16-bit integers in units of 1/1024 voxel; steps along z are counted in 8 bits.
_MOST_REACH = 30
_MOST_STEPS = 254


@dataclass(frozen=True)
class BasinSettings:
    """Parameters of distance basins. Lengths are in units of the xy voxel, also along z.

    reach: distances are clipped to this. sigma: smoothing of the height. period and ripple: the periodic term, which
    keeps paths short in flat interiors. per_section: fragments do not cross sections. mask_boundary: voxels with a
    lower mean affinity (0 to 1) belong to no fragment.
    """

    voxel_size_nm: Nanometres
    reach: float = 16.0
    sigma: float = 0.5
    period: float = 24.0
    ripple: float = 0.5
    per_section: bool = False
    mask_boundary: float = 0.0

    def __post_init__(self) -> None:
        if self.reach > _MOST_REACH:
            raise ValueError(f"reach is {self.reach:g} voxels, expected at most {_MOST_REACH}")
        if self.distance_reach_voxels[0] > _MOST_STEPS:
            raise ValueError(
                f"the edge of a voxel in z is {self.voxel_size[0]:g} of the edge in xy, expected at least "
                f"{self.reach / _MOST_STEPS:.3f}"
            )

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """The edges of a voxel (z, y, x), in units of the smaller of its y and x edges."""
        unit = min(self.voxel_size_nm[1:])
        z, y, x = (edge / unit for edge in self.voxel_size_nm)
        return (z, y, x)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes along which fragments extend."""
        return (1, 2) if self.per_section else (0, 1, 2)

    @property
    def distance_reach_voxels(self) -> Triple:
        """The reach of distances along each axis, in voxels."""
        return self._along(lambda edge: max(0, math.ceil(self.reach / edge) - 1))

    @property
    def smoothing_reach_voxels(self) -> Triple:
        """The reach of the smoothing kernel along each axis, in voxels."""
        return triple([len(self.smoothing_weights(axis)) - 1 if axis in self.axes else 0 for axis in range(3)])

    def smoothing_weights(self, axis: int) -> list[int]:
        """Return the weights at distances 0, 1, 2, ... voxels: a Gaussian in whole numbers.

        With both sides, the weights sum to SMOOTHING_SUM. Weights that round to 0 are omitted.
        """
        sigma = self.sigma / self.voxel_size[axis]
        reach = int(3 * sigma + 0.5)
        gaussian = [math.exp(-0.5 * (step / sigma) ** 2) if step else 1.0 for step in range(reach + 1)]
        total = gaussian[0] + 2 * sum(gaussian[1:])
        sides = [round(weight / total * SMOOTHING_SUM) for weight in gaussian[1:]]
        while sides and not sides[-1]:
            sides.pop()
        return [SMOOTHING_SUM - 2 * sum(sides), *sides]

    @property
    def halo_voxels(self) -> Triple:
        """The reach of distances and smoothing, plus one voxel for pointers and one for pointers of the shell."""
        distance, smoothing = self.distance_reach_voxels, self.smoothing_reach_voxels
        z, y, x = (distance[axis] + smoothing[axis] + 2 if axis in self.axes else 0 for axis in range(3))
        return (z, y, x)

    def _along(self, reach: object) -> Triple:
        z, y, x = (
            int(reach(edge)) if axis in self.axes else 0  # type: ignore[operator]
            for axis, edge in enumerate(self.voxel_size)
        )
        return (z, y, x)


def wants_sections(voxel_size_nm: Nanometres) -> bool:
    """Return whether to compute fragments per section: voxels are at least three times longer in z than in xy."""
    return voxel_size_nm[0] >= _PER_SECTION_ANISOTROPY * min(voxel_size_nm[1:])
