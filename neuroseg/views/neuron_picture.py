"""Pictures of neurons side by side -> a PNG with a scale bar, and with arrows at errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuroseg.storage.publish import published
from neuroseg.views.curve import MERGE, SPLIT
from neuroseg.views.figure import round_length
from neuroseg.views.rasteriser import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 100
_BLACK = "#000000"
ARROWS = {"split": SPLIT, "merge": MERGE}
# Lengths as parts of the longest edge of a picture: strips above and below, gap, arrow, its distance to the place.
_STRIP, _GAP, _ARROW, _DISTANCE = 0.06, 0.03, 0.075, 0.008


@dataclass(frozen=True)
class Arrow:
    """An arrow to a pixel of a picture. `error`: split (blue) or merge (red)."""

    row: float
    column: float
    error: str


@dataclass(frozen=True)
class Panel:
    """One picture `(height, width, 3)`, 0 to 1, with a title above it, and arrows."""

    picture: Picture
    title: str = ""
    arrows: tuple[Arrow, ...] = ()


def neuron_picture(path: Path, panels: Sequence[Panel], nm_per_pixel: float) -> None:
    """Write a PNG with the panels side by side, pixel by pixel, and a scale bar below the first one.

    All panels have the same shape and scale. The folder of `path` must exist. Readers never see a partial file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width, _ = panels[0].picture.shape
    size = max(height, width)
    strip, gap = max(24, round(_STRIP * size)), round(_GAP * size)
    above = strip if any(panel.title for panel in panels) else 0
    whole = (len(panels) * (width + gap) - gap, above + height + strip)
    figure = Figure(
        figsize=(whole[0] / _DOTS_PER_INCH, whole[1] / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH, facecolor="white"
    )
    FigureCanvasAgg(figure)
    for number, panel in enumerate(panels):
        left = number * (width + gap)
        figure.figimage(np.round(panel.picture * 255).astype(np.uint8), left, strip, origin="upper", zorder=0)
        _write(figure, left + width / 2, strip + height + above / 2, panel.title, size, ha="center")
        for arrow in panel.arrows:
            _draw_arrow(figure, arrow, (left, strip), (height, width))
    legend = left + width - round(0.02 * size)
    _draw_scale_bar(figure, width, strip, nm_per_pixel, size)
    _draw_legend(figure, panels, legend, strip, size)
    with published(path) as aside:
        figure.savefig(aside, format="png")


def scale_bar(width: int, nm_per_pixel: float) -> tuple[float, int]:
    """Return the length of a scale bar in nm, and in pixels: a round length up to a quarter of the picture's width."""
    length = round_length(width * nm_per_pixel / 4)
    return length, round(length / nm_per_pixel)


def length_text(length_nm: float) -> str:
    """Return a length with its unit, nm or µm."""
    return f"{length_nm / 1000:g} µm" if length_nm >= 1000 else f"{length_nm:g} nm"


def _draw_scale_bar(figure: Figure, width: int, strip: int, nm_per_pixel: float, size: int) -> None:
    from matplotlib.patches import Rectangle

    length, pixels = scale_bar(width, nm_per_pixel)
    left, thick = round(0.02 * size), max(3, round(0.006 * size))
    bar = Rectangle((left, (strip - thick) // 2), pixels, thick, color=_BLACK, linewidth=0, antialiased=False)
    bar.set_transform(None)
    figure.add_artist(bar)
    _write(figure, left + pixels + 0.012 * size, strip / 2, length_text(length), size, ha="left")


def _draw_legend(figure: Figure, panels: Sequence[Panel], right: int, strip: int, size: int) -> None:
    """Write the names of the errors in the colours of their arrows, from right to left."""
    found = {arrow.error for panel in panels for arrow in panel.arrows}
    for error in (name for name in ("merge", "split") if name in found):
        _write(figure, right, strip / 2, f"\N{RIGHTWARDS ARROW} {error}", size, ha="right", color=ARROWS[error])
        right -= round(0.14 * size)


def _draw_arrow(figure: Figure, arrow: Arrow, corner: tuple[int, int], shape: tuple[int, int]) -> None:
    """Draw an arrow that comes from the side of the picture's border, so that it hides little."""
    from matplotlib import patheffects
    from matplotlib.patches import FancyArrowPatch

    height, width = shape
    size = max(shape)
    tip = np.array([corner[0] + arrow.column, corner[1] + height - arrow.row])
    outward = tip - (np.array(corner) + np.array([width, height]) / 2)
    away = float(np.hypot(*outward))
    outward = outward / away if away >= 1 else np.array([0.6, 0.8])
    # At the border, the arrow comes from inside.
    tail = tip + outward * _ARROW * size
    inside = (corner[0] <= tail[0] <= corner[0] + width) and (corner[1] <= tail[1] <= corner[1] + height)
    outward = outward if inside else -outward
    patch = FancyArrowPatch(
        tuple(tip + outward * (_DISTANCE + _ARROW) * size),
        tuple(tip + outward * _DISTANCE * size),
        arrowstyle="simple,head_width=0.55,head_length=0.6,tail_width=0.18",
        mutation_scale=_points(0.045 * size),
        color=ARROWS[arrow.error],
        linewidth=0,
        shrinkA=0,
        shrinkB=0,
    )
    patch.set_path_effects([patheffects.withStroke(linewidth=_points(0.006 * size), foreground="white")])
    patch.set_transform(None)
    figure.add_artist(patch)


def _write(figure: Figure, x: float, y: float, text: str, size: int, **style: Any) -> None:
    if text:
        style = {"fontsize": _points(max(11, 0.024 * size)), "va": "center", "color": _BLACK, **style}
        figure.text(x, y, text, transform=None, **style)


def _points(pixels: float) -> float:
    return pixels * 72 / _DOTS_PER_INCH
