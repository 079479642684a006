"""A sheet with pairs of images: sections, and the same sections with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroseg.storage.publish import published
from neuroseg.views.figure import covered

_COLUMNS = 3
_CELL_INCHES, _GAP_INCHES, _NAME_INCHES, _TITLE_INCHES = 1.8, 0.14, 0.3, 0.35
_DOTS_PER_INCH = 100


@dataclass(frozen=True)
class Frame:
    """One section: its name, raw `(y, x)` in [0, 1] and labels `(y, x)`."""

    name: str
    raw: NDArray[np.float32]
    labels: NDArray[np.integer]


def contact_sheet(path: Path, frames: Sequence[Frame], title: str) -> None:
    """Write a PNG with a pair of images per frame: raw, and raw with labels.

    If the labels of a frame differ from those of the first frame, draw the borders of the first in white over them, to
    show the movement.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(frames) // _COLUMNS)
    size = (_COLUMNS * (2 * _CELL_INCHES + _GAP_INCHES), rows * (_CELL_INCHES + _NAME_INCHES) + _TITLE_INCHES)
    figure = Figure(figsize=size, dpi=_DOTS_PER_INCH, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=_GAP_INCHES / 4, h_pad=_GAP_INCHES / 4)  # type: ignore[union-attr,call-arg]
    figure.suptitle(title, fontsize=11, x=0.005, ha="left")
    cells = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes in cells.flat:
        axes.set_axis_off()
    for axes, frame in zip(cells.flat, frames, strict=False):
        axes.imshow(_pair(frame, frames[0].labels), interpolation="nearest")
        axes.set_title(frame.name, fontsize=11, weight="bold", loc="left", pad=3)
    with published(path) as aside:
        figure.savefig(aside, format="png")


def _pair(frame: Frame, first: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return raw and labelled raw next to each other, `(y, x, 3)` in [0, 1], with a white line between them."""
    grey = np.repeat(np.clip(frame.raw, 0, 1)[..., None], 3, axis=-1).astype(np.float64)
    labelled = covered(grey, frame.labels)
    if not np.array_equal(frame.labels, first):
        labelled[_borders(first)] = 1.0
    return np.concatenate([grey, np.ones((len(grey), 2, 3)), labelled], axis=1)


def _borders(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return a mask `(y, x)` of the voxels whose lower or right neighbour has another label."""
    out = np.zeros(labels.shape, bool)
    out[:-1] |= labels[:-1] != labels[1:]
    out[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return out
