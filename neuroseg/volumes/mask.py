"""Masks: arrays of any resolution that select the voxels of a volume to segment."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.blocks import Numbers, Wanted
from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres, Triple
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.content import Content, content_of
from neuroseg.volumes.mask_grid import Scaled, cells_inside, voxels_inside
from neuroseg.volumes.placement import CORNER, Grid, corner_shift_nm
from neuroseg.volumes.volume import Volume

logger = logging.getLogger(__name__)

ReadMask = Callable[[Roi], NDArray[np.bool_]]
_SLAB_SECTIONS = 16


@dataclass(frozen=True)
class MaskSource:
    """A mask at `path`, applied to the voxels of a volume. Any value except 0 is inside.

    `voxel_size_nm`, `offset_nm` and its `convention` describe the volume. A voxel is inside if the mask's voxel at its
    centre is inside. Outside the mask's extent, every voxel is outside. Without a voxel size, the mask has the volume's
    voxel size. Without an offset, it begins at the volume's begin.
    """

    path: str
    voxel_size_nm: Nanometres
    offset_nm: Nanometres
    identity: str
    content: Content | None = field(default=None, compare=False)
    convention: str = CORNER

    def open(self) -> ReadMask:
        """Return the function that reads a region of the volume as booleans `(z, y, x)`."""
        mask = open_any(self.path)
        scaled = _scaled(mask, Grid(self.voxel_size_nm, self.offset_nm, self.convention))
        return lambda roi: voxels_inside(mask, roi, scaled)

    def touching(self) -> Wanted:
        """Return the function that returns which cells of a grid have a voxel inside. It reads the mask once."""
        return _touching(self)


def open_mask(
    path: str, shape: Triple, voxel_size_nm: Nanometres, offset_nm: Nanometres, convention: str = CORNER
) -> MaskSource:
    """Return the mask at a zarr path or `file.h5:dataset` for a volume of `shape`.

    Raises InputError unless its values are integers or booleans. Raises InputError if the mask states no voxel size or
    no offset, unless its shape or extent equals the volume's.
    """
    mask = open_any(path)
    if mask.dtype.kind not in "bui":
        raise InputError(
            f"mask {path} contains {mask.dtype} values, expected booleans or integers",
            hint="store it as uint8: 0 outside, 1 inside",
        )
    if mask.voxel_size_nm is None and not mask.placed and mask.shape != shape:
        raise InputError(
            f"mask {path} has no voxel size, and its shape is {mask.shape}, expected the volume's shape {shape}",
            hint="give the mask the attribute voxel_size (nm, z y x)",
        )
    if not mask.placed and any(offset_nm) and not _covers(mask, shape, voxel_size_nm):
        raise InputError(
            f"mask {path} of {mask.shape} voxels has no offset, and its extent differs from the volume's extent: "
            f"{shape} voxels at {offset_nm} nm",
            hint="give the mask the attribute offset (nm, z y x)",
        )
    if not mask.placed:
        logger.warning("mask %s has no offset. It is assumed to begin at the same position as the volume", path)
    content = content_of(mask, [_checksum(mask)])
    identity = content.identity + _place(mask, Grid(voxel_size_nm, offset_nm, convention))
    return MaskSource(path, voxel_size_nm, offset_nm, identity, content, convention)


def _covers(mask: Volume, shape: Triple, voxel_size_nm: Nanometres) -> bool:
    """Return whether a mask and a volume have the same extent, within one voxel of the coarser of the two."""
    sizes = mask.voxel_size_nm or voxel_size_nm
    axes = zip(mask.shape, sizes, shape, voxel_size_nm, strict=True)
    return all(abs(n * size - wanted * edge) < max(size, edge) for n, size, wanted, edge in axes)


def _shift_nm(mask: Volume, grid: Grid) -> Nanometres:
    """Return the mask's first corner relative to the volume's first corner, in nm."""
    if not mask.placed:
        return (0.0, 0.0, 0.0)
    return corner_shift_nm(Grid(mask.voxel_size_nm or grid.voxel_size_nm, mask.offset_nm, mask.zero), grid)


def _scaled(mask: Volume, grid: Grid) -> Scaled:
    sizes = mask.voxel_size_nm or grid.voxel_size_nm
    rz, ry, rx = (edge / size for edge, size in zip(grid.voxel_size_nm, sizes, strict=True))
    sz, sy, sx = (shift / size for shift, size in zip(_shift_nm(mask, grid), sizes, strict=True))
    return Scaled((rz, ry, rx), (sz, sy, sx))


def _place(mask: Volume, grid: Grid) -> str:
    """Return the part of the mask's identity for its position. Empty if the position follows from the offsets."""
    shift = _shift_nm(mask, grid)
    apart = tuple(a - b for a, b in zip(mask.offset_nm, grid.offset_nm, strict=True))
    if shift == apart or (mask.voxel_size_nm is None and not any(shift)):
        return ""
    return f"@{','.join(map(str, shift))}"


def _checksum(mask: Volume) -> str:
    """Return a hash of every voxel. Users edit masks in place, and a sample would miss small edits."""
    digest = hashlib.sha256()
    for z in range(0, mask.shape[0], _SLAB_SECTIONS):
        sections = min(_SLAB_SECTIONS, mask.shape[0] - z)
        inside = mask.read(Roi((z, 0, 0), (sections, *mask.shape[1:]))) != 0
        digest.update(np.packbits(inside).tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _touching(source: MaskSource) -> Wanted:
    known: dict[bytes, NDArray[np.bool_]] = {}

    def touching(*faces: Numbers) -> NDArray[np.bool_]:
        # Every stage asks for the same grid, or for one of a few.
        key = b"|".join(each.tobytes() for each in faces)
        if key not in known:
            mask = open_any(source.path)
            known[key] = cells_inside(
                mask, faces, _scaled(mask, Grid(source.voxel_size_nm, source.offset_nm, source.convention))
            )
        return known[key]

    return touching
