"""Voxel sizes that are unlikely for electron microscopy, or are in the order x, y, z: the user must confirm them."""

from __future__ import annotations

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres

# Atoms are 0.1 nm apart; the coarsest levels of a whole brain's pyramid reach tens of micrometres.
_LEAST_NM, _MOST_NM = 0.1, 1e5
# EM sections have square pixels. Serial sections are thicker than a pixel is wide, FIB-SEM slices about as thick.
_MOST_IN_PLANE_RATIO, _MOST_FINER_Z = 1.5, 2.0


def require_plausible_voxel_size(path: str, size: Nanometres, *, force: bool) -> None:
    """Raise InputError for a voxel size (z, y, x) that is likely wrong, unless `force`. The hint names likely fixes."""
    found = None if force else _problem_and_fix(size)
    if found is not None:
        problem, fix = found
        raise InputError(
            f"{path} has a voxel size of {_nm(size)} nm (z y x), {problem}", hint=f"{fix}, or confirm it with --force"
        )


def _problem_and_fix(size: Nanometres) -> tuple[str, str] | None:
    """Return why a voxel size is likely wrong and the option that corrects it. None if it is plausible."""
    z, y, x = size
    if min(size) < _LEAST_NM:
        return (
            f"expected {_LEAST_NM:g} nm or more",
            f"if the numbers are micrometres, use --voxel-size {_nm(size, 1e3)}",
        )
    if max(size) > _MOST_NM:
        return (
            f"expected {_MOST_NM:g} nm or less",
            f"if the numbers are picometres, use --voxel-size {_nm(size, 1e-3)}",
        )
    if max(y, x) > _MOST_IN_PLANE_RATIO * min(y, x) and x > z:
        return ("expected y and x to be alike", f"if the order is x y z, use --voxel-size {_nm((x, y, z))}")
    if z * _MOST_FINER_Z < min(y, x):
        return (
            f"expected z of {min(y, x) / _MOST_FINER_Z:g} nm or more",
            "give the size in the order z y x with --voxel-size Z Y X",
        )
    return None


def _nm(size: Nanometres, factor: float = 1.0) -> str:
    return " ".join(f"{edge * factor:g}" for edge in size)
