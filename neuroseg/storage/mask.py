"""Masks: which voxels of a volume are to be segmented, from an array of any resolution."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres, Triple
from neuroseg.storage.content import Content, content_of
from neuroseg.storage.files import open_any
from neuroseg.storage.volumes import Volume

ReadMask = Callable[[Roi], NDArray[np.bool_]]
_REMEMBERED_BLOCKS = 100_000
_SLAB_SECTIONS = 16


@dataclass(frozen=True)
class MaskSource:
    """A mask at `path` (any value but 0 is inside), seen from the voxels of the volume that it belongs to.

    `voxel_size_nm` and `offset_nm` are the volume's: a voxel is inside where the mask's voxel at its centre is. Beyond
    the mask's extent everything is outside. A mask without a voxel size has the volume's voxels.
    """

    path: str
    voxel_size_nm: Nanometres
    offset_nm: Nanometres
    identity: str
    content: Content | None = field(default=None, compare=False)

    def open(self) -> ReadMask:
        """Return the function that reads a region of the volume as booleans `(z, y, x)`."""
        mask = open_any(self.path)
        return lambda roi: _inside(mask, roi, self.voxel_size_nm, self.offset_nm)

    def touching(self) -> Callable[[Roi], bool]:
        """Return the function that tells whether any voxel of a region is inside; it remembers its answers."""
        return _touching(self)


def open_mask(path: str, shape: Triple, voxel_size_nm: Nanometres, offset_nm: Nanometres) -> MaskSource:
    """Return the mask at a zarr path or `file.h5:dataset` for a volume of `shape`.

    Raises InputError for values that are not whole numbers or booleans, and for a mask without a voxel size whose
    shape is not the volume's.
    """
    mask = open_any(path)
    if mask.dtype.kind not in "bui":
        raise InputError(f"{path} holds {mask.dtype} values; a mask is boolean or integer, 0 outside")
    if mask.voxel_size_nm is None and mask.shape != shape:
        raise InputError(
            f"mask {path} of {mask.shape} voxels has no voxel size and is not of the volume's shape {shape}; "
            "give it the attribute voxel_size (nm, z y x)"
        )
    content = content_of(mask, [_checksum(mask)])
    return MaskSource(path, voxel_size_nm, offset_nm, content.identity, content)


def _checksum(mask: Volume) -> str:
    """Return a hash of every voxel: masks are repainted in place, and a sample would miss it."""
    digest = hashlib.sha256()
    for z in range(0, mask.shape[0], _SLAB_SECTIONS):
        sections = min(_SLAB_SECTIONS, mask.shape[0] - z)
        inside = mask.read(Roi((z, 0, 0), (sections, *mask.shape[1:]))) != 0
        digest.update(np.packbits(inside).tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _touching(source: MaskSource) -> Callable[[Roi], bool]:
    read = source.open()

    @lru_cache(maxsize=_REMEMBERED_BLOCKS)
    def touches(begin: Triple, shape: Triple) -> bool:
        return bool(read(Roi(begin, shape)).any())

    return lambda roi: touches(tuple(roi.begin), tuple(roi.shape))


def _inside(mask: Volume, roi: Roi, voxel_size_nm: Nanometres, offset_nm: Nanometres) -> NDArray[np.bool_]:
    places = [_places(mask, axis, roi, voxel_size_nm[axis], offset_nm[axis]) for axis in range(3)]
    within = [(at >= 0) & (at < size) for at, size in zip(places, mask.shape, strict=True)]
    out = np.zeros(tuple(roi.shape), bool)
    if all(known.any() for known in within):
        known = [at[inside] for at, inside in zip(places, within, strict=True)]
        begin = [int(at[0]) for at in known]
        values = mask.read(Roi(begin, [int(at[-1]) + 1 - b for at, b in zip(known, begin, strict=True)]))
        out[np.ix_(*within)] = values[np.ix_(*(at - b for at, b in zip(known, begin, strict=True)))] != 0
    return out


def _places(mask: Volume, axis: int, roi: Roi, voxel_nm: float, offset_nm: float) -> NDArray[np.int64]:
    """Return, for each coordinate of `roi` along an axis, where in the mask its centre lies; ascending."""
    at = np.arange(roi.begin[axis], roi.end[axis])
    if mask.voxel_size_nm is None:
        return at
    centre_nm = offset_nm + (at + 0.5) * voxel_nm - mask.offset_nm[axis]
    return np.floor(centre_nm / mask.voxel_size_nm[axis]).astype(np.int64)
