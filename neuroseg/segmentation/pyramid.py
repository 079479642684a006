"""The levels of a pyramid: axes are halved towards isotropic voxels until the volume is small."""

from __future__ import annotations

from neuroseg.geometry import Nanometres, Triple, triple

_SMALL_VOXELS = 128


def level_factors(shape: Triple, voxel_size_nm: Nanometres) -> list[Triple]:
    """Return the downsampling factors of each level relative to the previous one. Empty for a small volume.

    An axis is halved unless its voxel edge is at least 1.5 times the shortest edge, or the axis has one voxel. The last
    level has no axis longer than 128 voxels.
    """
    factors: list[Triple] = []
    size, edge = list(shape), list(voxel_size_nm)
    while max(size) > _SMALL_VOXELS:
        halve = [n > 1 and e < 1.5 * min(edge) for n, e in zip(size, edge, strict=True)]
        if not any(halve):
            halve = [n > 1 for n in size]
        factors.append(triple([2 if h else 1 for h in halve]))
        size = [-(-n // f) for n, f in zip(size, factors[-1], strict=True)]
        edge = [e * f for e, f in zip(edge, factors[-1], strict=True)]
    return factors
