"""The threshold curve is a PNG of 2000 pixels width that shows the best and the stored threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuroseg.views.curve import BEST, STORED, WIDTH_PIXELS, threshold_curve


def row(threshold: float, split: float, merge: float) -> dict[str, float]:
    return {"threshold": threshold, "voi_split": split, "voi_merge": merge, "voi_sum": split + merge}


SWEEP = [row(n / 50, 2 - n / 25, (n / 50) ** 4) for n in range(1, 50)]


def shows(path: Path, colour: str) -> bool:
    """Whether any pixel of the figure has this colour."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width == WIDTH_PIXELS == 2000
        return bool((np.asarray(image.convert("RGB")) == list(bytes.fromhex(colour[1:]))).all(-1).any())


def test_best_and_stored_are_marked(tmp_path: Path) -> None:
    threshold_curve(tmp_path / "curve.png", SWEEP, row(0.35, 1.3, 0.02), "a title")
    assert shows(tmp_path / "curve.png", BEST)
    assert shows(tmp_path / "curve.png", STORED)
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]


@pytest.mark.parametrize(
    "sweep", [SWEEP[:1], [row(0.1, 0, 0), row(0.2, 0, 0)], [row(0.1, 0, 0), row(0.2, 1, 0)], [row(0.5, 0, 3)]]
)
def test_a_perfect_or_a_single_threshold_can_be_drawn(sweep: list[dict[str, float]], tmp_path: Path) -> None:
    threshold_curve(tmp_path / "curve.png", sweep)
    assert shows(tmp_path / "curve.png", BEST)
    assert not shows(tmp_path / "curve.png", STORED)
