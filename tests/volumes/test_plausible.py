"""Unlikely voxel sizes are refused, with a hint at the likely size."""

from __future__ import annotations

import pytest

from neuroseg.errors import InputError
from neuroseg.volumes.plausible import require_plausible_voxel_size

PLAUSIBLE = [(10, 10, 10), (50, 4, 4), (30, 6, 6), (4, 4, 4), (2560, 2560, 2560), (5, 8, 8), (40, 32, 32), (29, 6, 6.2)]


@pytest.mark.parametrize("size", PLAUSIBLE)
def test_sizes_of_microscopes_are_accepted(size: tuple[float, float, float]) -> None:
    require_plausible_voxel_size("v", size, force=False)


@pytest.mark.parametrize(
    ("size", "found"),
    [
        ((0.05, 0.004, 0.004), "--voxel-size 50 4 4"),
        ((1e6, 1e6, 1e6), "--voxel-size 1000 1000 1000"),
        ((4, 4, 40), "--voxel-size 40 4 4"),
        ((6, 6.2, 29), "--voxel-size 29 6.2 6"),
        ((4, 40, 40), "expected z of 20 nm or more"),
    ],
)
def test_unlikely_sizes_are_refused_with_a_hint(size: tuple[float, float, float], found: str) -> None:
    with pytest.raises(InputError, match=found):
        require_plausible_voxel_size("v", size, force=False)
    require_plausible_voxel_size("v", size, force=True)
