"""Voxel sizes that are likely wrong are asked about, with the likely right ones."""

from __future__ import annotations

import pytest

from neuroseg.errors import InputError
from neuroseg.volumes.plausible import require_plausible_voxel_size

PLAUSIBLE = [(10, 10, 10), (50, 4, 4), (30, 6, 6), (4, 4, 4), (2560, 2560, 2560), (5, 8, 8), (40, 32, 32), (29, 6, 6.2)]


@pytest.mark.parametrize("size", PLAUSIBLE)
def test_sizes_of_microscopes_are_taken(size: tuple[float, float, float]) -> None:
    require_plausible_voxel_size("v", size, force=False)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ((0.05, 0.004, 0.004), "--voxel-size 50 4 4"),
        ((1e6, 1e6, 1e6), "--voxel-size 1000 1000 1000"),
        ((4, 4, 40), "--voxel-size 40 4 4"),
        ((6, 6.2, 29), "--voxel-size 29 6.2 6"),
        ((4, 40, 40), "z is the finest"),
    ],
)
def test_likely_mistakes_are_asked_about(size: tuple[float, float, float], told: str) -> None:
    with pytest.raises(InputError, match=told):
        require_plausible_voxel_size("v", size, force=False)
    require_plausible_voxel_size("v", size, force=True)
