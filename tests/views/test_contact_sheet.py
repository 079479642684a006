"""Pairs of images on a sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import image

from neuroseg.views.contact_sheet import Frame, contact_sheet


def test_borders_of_the_first_frame_are_drawn_over_moved_labels(tmp_path: Path) -> None:
    """Raw is black, so a white voxel is background or a border. Only the moved frame has borders."""
    labels = np.zeros((40, 40), np.uint32)
    labels[:, 20:] = 1
    raw = np.zeros((40, 40), np.float32)
    white = []
    for second in (labels, np.roll(labels, 10, axis=1)):
        contact_sheet(tmp_path / "sheet.png", [Frame("one", raw, labels), Frame("two", raw, second)], "title")
        sheet = image.imread(tmp_path / "sheet.png")[..., :3]
        white.append((sheet == 1).all(axis=-1))
    more = white[1] & ~white[0]
    assert more.any(axis=1).sum() > 100, "a line from top to bottom of the second frame"
    assert 1 < np.ptp(np.flatnonzero(more.any(axis=0))) < 12
