"""Voxel sizes that no electron microscope makes, or that stand in the order x, y, z: asked about, not believed."""

from __future__ import annotations

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres

# Atoms are 0.1 nm apart; the coarsest levels of a whole brain's pyramid reach tens of micrometres.
_LEAST_NM, _MOST_NM = 0.1, 1e5
# Sections of EM have square voxels; serial sections are thicker than these are wide, FIB-SEM about as thick.
_MOST_IN_PLANE_RATIO, _MOST_FINER_Z = 1.5, 2.0


def require_plausible_voxel_size(path: str, size: Nanometres, *, force: bool) -> None:
    """Raise InputError for a voxel size (z, y, x) that is likely wrong, with the likely right one; not with `force`."""
    doubt = None if force else _doubt(size)
    if doubt:
        raise InputError(f"{path} has voxels of {_nm(size)} nm (z y x): {doubt}, or confirm it with --force")


def _doubt(size: Nanometres) -> str | None:
    """Return why a voxel size is likely wrong and what to give instead; None where it is plausible."""
    z, y, x = size
    if min(size) < _LEAST_NM:
        return f"{_LEAST_NM:g} nm or more is expected. If it is in micrometres, give --voxel-size {_nm(size, 1e3)}"
    if max(size) > _MOST_NM:
        return f"{_MOST_NM:g} nm at most is expected. If it is in picometres, give --voxel-size {_nm(size, 1e-3)}"
    if max(y, x) > _MOST_IN_PLANE_RATIO * min(y, x) and x > z:
        return f"y and x differ, so it looks like x y z. If it is, give --voxel-size {_nm((x, y, z))}"
    if z * _MOST_FINER_Z < min(y, x):
        return "z is the finest, which sections cannot be. Give --voxel-size Z Y X"
    return None


def _nm(size: Nanometres, factor: float = 1.0) -> str:
    return " ".join(f"{edge * factor:g}" for edge in size)
