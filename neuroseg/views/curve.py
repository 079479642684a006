"""Scores at every threshold -> a figure of split and merge errors with the best threshold marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuroseg.storage.publish import published

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Scored = Mapping[str, float]

WIDTH_PIXELS, DOTS_PER_INCH = 2000, 200
SPLIT, MERGE, TOTAL, BEST, STORED, FAINT = "#2f6db3", "#c8553d", "#222222", "#1a936f", "#e09f1f", "#c4c4c4"
NOTE, PAPER = "#555555", "#ffffff"
# Split and merge are drawn up to this multiple of the best sum: good thresholds lie within this range.
MAX_MULTIPLE = 2.0


def threshold_curve(path: Path, sweep: Sequence[Scored], stored: Scored | None = None, title: str = "") -> None:
    """Write the figure of `curve_figure` as a PNG, 2000 pixels wide."""
    with published(path) as aside:
        curve_figure(sweep, stored, title).savefig(aside, format="png")


def curve_figure(sweep: Sequence[Scored], stored: Scored | None = None, title: str = "") -> Figure:
    """Return a figure. Left: VOI split against VOI merge. Right: split, merge and sum by threshold.

    `sweep` contains at least one row with `threshold`, `voi_split`, `voi_merge` and `voi_sum` (bits), by ascending
    threshold. The first row with the smallest sum is marked as best. `stored`: the row of the stored segmentation.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = WIDTH_PIXELS / DOTS_PER_INCH
    figure = Figure(figsize=(width, 0.52 * width), dpi=DOTS_PER_INCH, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    plane, lines = figure.subplots(1, 2)
    best = min(sweep, key=lambda row: row["voi_sum"])
    _draw_plane(plane, sweep, best, stored)
    _draw_lines(lines, sweep, best, stored)
    for axes in (plane, lines):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(TOTAL)
        axes.tick_params(labelsize=8, color=TOTAL, labelcolor=TOTAL)
        for label in (axes.xaxis.label, axes.yaxis.label, *axes.get_legend().get_texts()):
            label.set_color(TOTAL)
    if title:
        figure.suptitle(title, fontsize=11, weight="bold", x=0.01, ha="left", color=TOTAL)
    return figure


def _draw_plane(axes: Axes, sweep: Sequence[Scored], best: Scored, stored: Scored | None) -> None:
    """Draw split against merge near the best threshold, with thresholds along the curve, and lines of equal sum."""
    limit = _limit(sweep, best, stored)
    axes.set_xlim(0, limit)
    axes.set_ylim(0, limit)
    axes.set_aspect("equal")
    ticks = axes.get_xticks()
    for total in np.arange(1, 2 * len(ticks)) * (ticks[1] - ticks[0]):
        axes.plot((0, total), (total, 0), color=FAINT, linewidth=0.6, zorder=1)
    merge, split = _column(sweep, "voi_merge"), _column(sweep, "voi_split")
    axes.plot(merge, split, color=TOTAL, linewidth=1.6, marker="o", markersize=2.6, zorder=3)
    for row in _spread(sweep, best, limit / 10):
        axes.annotate(
            f"{row['threshold']:.2f}", (row["voi_merge"], row["voi_split"]), (5, 5), textcoords="offset points",
            fontsize=7, color=NOTE, zorder=4,
        )  # fmt: skip
    _mark(axes, "voi_merge", "voi_split", best, stored)
    axes.set_xlabel("VOI merge (bits)", fontsize=9)
    axes.set_ylabel("VOI split (bits)", fontsize=9)
    axes.legend(fontsize=8, loc="upper right", edgecolor="none", framealpha=1)
    axes.set_title("Split and merge errors (grey lines: equal sum)", fontsize=9, loc="left", color=NOTE)


def _draw_lines(axes: Axes, sweep: Sequence[Scored], best: Scored, stored: Scored | None) -> None:
    """Draw split, merge and their sum by threshold."""
    thresholds = _column(sweep, "threshold")
    for name, colour in (("split", SPLIT), ("merge", MERGE), ("sum", TOTAL)):
        axes.plot(thresholds, _column(sweep, f"voi_{name}"), color=colour, linewidth=1.8, label=name)
    _mark(axes, "threshold", "voi_sum", best, stored, named=False)
    axes.axvline(best["threshold"], color=BEST, linewidth=0.8, linestyle=":", zorder=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("Threshold", fontsize=9)
    axes.set_ylabel("VOI (bits)", fontsize=9)
    axes.legend(fontsize=8, edgecolor="none", framealpha=1)
    axes.set_title("Errors by threshold", fontsize=9, loc="left", color=NOTE)


def _mark(axes: Axes, x: str, y: str, best: Scored, stored: Scored | None, *, named: bool = True) -> None:
    """Mark the best threshold with a dot and the stored segmentation with a ring. Both may be at the same place."""
    for row, name, colour, size, filled in ((stored, "stored", STORED, 130, False), (best, "best", BEST, 42, True)):
        if row is not None:
            label = f"{name}: threshold {row['threshold']:g}, sum {row['voi_sum']:.3f} bits" if named else None
            face = colour if filled else "none"
            axes.scatter(
                row[x],
                row[y],
                s=size,
                facecolor=face,
                edgecolor=colour,
                linewidth=1.8,
                zorder=5,
                label=label,
                clip_on=False,
            )


def _limit(sweep: Sequence[Scored], best: Scored, stored: Scored | None) -> float:
    """Return the limit of both axes in bits, so that marked points and the relevant part of the curve are visible."""
    marked = max(row[name] for row in (best, stored or best) for name in ("voi_split", "voi_merge"))
    farthest = max(row[name] for row in sweep for name in ("voi_split", "voi_merge"))
    relevant = MAX_MULTIPLE * best["voi_sum"] or farthest
    return max(1e-3, 1.1 * marked, min(relevant, 1.1 * farthest))


def _spread(sweep: Sequence[Scored], best: Scored, distance: float) -> list[Scored]:
    """Return the rows to label: each at least `distance` bits from the previous label and from the best threshold."""
    named = [best]
    for row in sweep:
        if all(_bits_between(row, other) >= distance for other in (best, named[-1])):
            named.append(row)
    return named[1:]


def _bits_between(row: Scored, other: Scored) -> float:
    return float(np.hypot(row["voi_merge"] - other["voi_merge"], row["voi_split"] - other["voi_split"]))


def _column(sweep: Sequence[Scored], name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([row[name] for row in sweep])
