"""Labels around block faces -> whether more segments end at block faces than at the planes next to them.

If the blocks do not affect the result, a block face is a plane like any other. A method that cuts labels at block faces
leaves a seam: the labels on its two sides differ at more places than the labels on the two sides of a nearby plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Planes on each side of a plane that it is compared with. Nearby planes show the same tissue.
NEIGHBOURS = 3
# Width of the expected band. With 3, one report in 60 with six rows would show a seam by chance.
BAND_DEVIATIONS = 4.0
# The share of fewer pairs of voxels is too uncertain.
_LEAST_PAIRS = 100
# The spread of fewer inner planes is too uncertain.
_LEAST_INNER = 10

Shares = NDArray[np.float64]


@dataclass(frozen=True)
class PlaneShares:
    """Shares (0 to 1) of the pairs of voxels across a plane whose labels differ, along one axis of one or more boxes.

    `at_faces` `(f,)` and `beside_faces` `(f,)`: at each block face, and the mean of its neighbouring planes. `inner`
    `(n,)` and `beside_inner` `(n,)`: the same at planes that have no block face near them.
    """

    at_faces: Shares
    beside_faces: Shares
    inner: Shares
    beside_inner: Shares


@dataclass(frozen=True)
class SeamAudit:
    """The mean share of differing pairs at `faces` block faces and at inner planes, 0 to 1, along one axis.

    `low` and `high` bound the share that is expected at the faces. Without enough planes, they are NaN.
    """

    faces: int
    at_faces: float
    inner: float
    low: float
    high: float

    @property
    def has_band(self) -> bool:
        """Whether there are enough planes for an expected band."""
        return not math.isnan(self.low)

    @property
    def has_seam(self) -> bool:
        """Whether more labels end at block faces than expected."""
        return self.has_band and self.at_faces > self.high

    @property
    def is_below(self) -> bool:
        """Whether fewer labels end at block faces than expected."""
        return self.has_band and self.at_faces < self.low


def plane_shares(labels: NDArray[np.integer], begin: int, block: int, axis: int) -> PlaneShares:
    """Return the shares at all planes of `labels` `(z, y, x)` along `axis`.

    `begin` is the global coordinate of the first voxel along the axis; block faces lie at multiples of `block`. A pair
    counts if both of its voxels have a label other than 0. Planes with fewer than 100 such pairs are omitted, and so
    are planes without `NEIGHBOURS` complete neighbours on both sides: those near the border of the array, and all
    planes if `block` is below 8 voxels.
    """
    share = _differing(labels, axis)
    # Plane i lies between the voxels begin + i and begin + i + 1.
    is_face = (np.arange(len(share)) + begin + 1) % block == 0
    usable = np.where(is_face, np.nan, share)
    beside = np.full(len(share), np.nan)
    if len(share) > 2 * NEIGHBOURS:
        windows = np.lib.stride_tricks.sliding_window_view(usable, 2 * NEIGHBOURS + 1)
        others = np.delete(windows, NEIGHBOURS, axis=1)
        beside[NEIGHBOURS:-NEIGHBOURS] = others.mean(axis=1)
    known = ~np.isnan(share) & ~np.isnan(beside)
    faces, inner = known & is_face, known & ~is_face
    return PlaneShares(share[faces], beside[faces], share[inner], beside[inner])


def seam_audit(boxes: Sequence[PlaneShares]) -> SeamAudit:
    """Return the audit of one axis from the shares in one or more boxes.

    The expected share at faces is the mean of the planes beside them. The band around it is 4 standard deviations of
    that comparison at inner planes, divided by the square root of the number of faces. Without a face or with fewer
    than 10 inner planes, the band is NaN.
    """
    at_faces, beside, inner, beside_inner = (
        np.concatenate([np.empty(0), *(getattr(box, name) for box in boxes)])
        for name in ("at_faces", "beside_faces", "inner", "beside_inner")
    )
    faces = len(at_faces)
    if not faces or len(inner) < _LEAST_INNER:
        return SeamAudit(faces, _mean(at_faces), _mean(inner), math.nan, math.nan)
    expected = float(beside.mean())
    width = BAND_DEVIATIONS * float(np.std(inner - beside_inner, ddof=1)) / math.sqrt(faces)
    return SeamAudit(faces, _mean(at_faces), _mean(inner), max(0.0, expected - width), min(1.0, expected + width))


def _differing(labels: NDArray[np.integer], axis: int) -> Shares:
    """Return for each plane the share of pairs of labelled voxels that differ. NaN for too few pairs."""
    moved = np.moveaxis(labels, axis, 0)
    share = np.full(max(0, len(moved) - 1), np.nan)
    for plane in range(len(share)):
        low, high = moved[plane], moved[plane + 1]
        counted = (low != 0) & (high != 0)
        pairs = int(counted.sum())
        if pairs >= _LEAST_PAIRS:
            share[plane] = int(((low != high) & counted).sum()) / pairs
    return share


def _mean(values: Shares) -> float:
    return float(values.mean()) if len(values) else math.nan
