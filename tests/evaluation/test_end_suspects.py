"""Segments that end inside the region: long, large, and away from the faces."""

from __future__ import annotations

import numpy as np
import pytest
from funlib.geometry import Roi

from neuroseg.evaluation.end_suspects import LEAST_LENGTH, LEAST_VOXELS, end_suspects
from neuroseg.evaluation.suspect import joining_bits
from neuroseg.tables import Table

REGION = Roi((10, 0, 0), (50, 200, 200))


def table(*rows: tuple[int, tuple[int, int, int], tuple[int, int, int]]) -> Table:
    """Segments 1, 2, ... from (voxels, begin, end)."""
    found: Table = {"segment": np.arange(1, len(rows) + 1, dtype=np.uint64)}
    found["voxels"] = np.array([row[0] for row in rows], np.uint64)
    for number, axis in enumerate("zyx"):
        found[f"begin_{axis}"] = np.array([row[1][number] for row in rows], np.uint32)
        found[f"end_{axis}"] = np.array([row[2][number] for row in rows], np.uint32)
    return found


def test_a_rod_inside_the_region_is_found() -> None:
    rod = (10 * 10 * 150, (20, 20, 20), (30, 30, 170))
    found = end_suspects(table((85_000, (10, 0, 0), (60, 200, 200)), rod), REGION, (10.0, 10.0, 10.0))
    length = np.sqrt(10**2 + 10**2 + 150**2) / np.cbrt(15_000)
    assert found["segment"].tolist() == [2]
    assert found["length"] == pytest.approx([length])
    expected = float(joining_bits(np.array(15_000), np.array(15_000), 100_000)) * (1 - LEAST_LENGTH / length)
    assert found["bits"] == pytest.approx([expected])


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ((10, 20, 20), (20, 30, 170)),  # first section of the region
        ((50, 20, 20), (60, 30, 170)),  # last section
        ((20, 0, 20), (30, 10, 170)),
        ((20, 20, 50), (30, 30, 200)),
    ],
)
def test_a_rod_at_a_face_is_not(begin: tuple[int, int, int], end: tuple[int, int, int]) -> None:
    assert not len(end_suspects(table((15_000, begin, end)), REGION, (10.0, 10.0, 10.0))["segment"])


def test_short_and_small_segments_are_not() -> None:
    cube = (30**3, (20, 20, 20), (50, 50, 50))
    thin = (LEAST_VOXELS - 1, (20, 20, 20), (22, 23, 190))
    assert not len(end_suspects(table(cube, thin), REGION, (10.0, 10.0, 10.0))["segment"])
    assert len(end_suspects(table((LEAST_VOXELS, *thin[1:])), REGION, (10.0, 10.0, 10.0))["segment"])


def test_lengths_are_measured_in_nm() -> None:
    tall = (20 * 10 * 10, (20, 20, 20), (40, 30, 30))
    assert not len(end_suspects(table(tall), REGION, (10.0, 10.0, 10.0))["segment"])
    assert len(end_suspects(table(tall), REGION, (90.0, 10.0, 10.0))["segment"])


def test_no_segments() -> None:
    assert not len(end_suspects(table(), REGION, (10.0, 10.0, 10.0))["segment"])
