"""Pairs of pictures on one sheet: what was changed, and what belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroseg.storage.publish import published
from neuroseg.views.figure import covered

_COLUMNS = 4
_CELL_INCHES = 2.1
_DOTS_PER_INCH = 100


@dataclass(frozen=True)
class Frame:
    """One section: its name, raw `(y, x)` in [0, 1] and labels `(y, x)`."""

    name: str
    raw: NDArray[np.float32]
    labels: NDArray[np.integer]


def contact_sheet(path: Path, frames: Sequence[Frame], title: str) -> None:
    """Write a PNG: every frame as its raw and, beside it, the raw under its labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(frames) // _COLUMNS)
    size = (2 * _COLUMNS * _CELL_INCHES, rows * (_CELL_INCHES + 0.25) + 0.4)
    figure = Figure(figsize=size, dpi=_DOTS_PER_INCH, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, weight="bold", x=0.01, ha="left")
    cells = figure.subplots(rows, 2 * _COLUMNS, squeeze=False)
    for axes in cells.flat:
        axes.set_axis_off()
    for number, frame in enumerate(frames):
        row, column = divmod(number, _COLUMNS)
        grey = np.repeat(np.clip(frame.raw, 0, 1)[..., None], 3, axis=-1).astype(np.float64)
        for place, image in enumerate((grey, covered(grey, frame.labels))):
            cells[row, 2 * column + place].imshow(image, interpolation="nearest")
        cells[row, 2 * column].set_title(frame.name, fontsize=10, loc="left")
    with published(path) as aside:
        figure.savefig(aside, format="png")
