"""The needs of volumes by size -> a figure: time, disk, files and memory by the number of voxels, and limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from growth_model import KASTHURI15, PETAVOXEL
from growth_page import voxels_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Needs = Mapping[str, Any]
Value = Callable[[Needs], float]

_WIDTH_INCHES, _HEIGHT_INCHES, _DOTS_PER_INCH = 10.0, 9.8, 200
_FONT_POINTS = 10
# Colours of Okabe and Ito, which people with any kind of colour vision can tell apart. Styles differ for print.
_LOOKS: Sequence[tuple[str, Any]] = (
    ("#000000", "-"),
    ("#0072B2", "--"),
    ("#D55E00", "-."),
    ("#009E73", ":"),
    ("#CC79A7", (0, (5, 1, 1, 1, 1, 1))),
)
_LIMIT, _FAINT = "#A03060", "#999999"
# Numbers of limits that are nearer than this ratio of voxels are drawn at different heights.
_NEAR = 2.2
_MARGIN = 0.02

_PANELS: Mapping[str, Mapping[str, Value]] = {
    "core-hours": {
        "all stages": lambda needs: sum(needs["core_hours"].values()),
        "without prediction": lambda needs: sum(_without_prediction(needs["core_hours"]).values()),
        "agglomeration": lambda needs: needs["core_hours"]["agglomeration"],
        "last group and lookup": lambda needs: needs["serial_hours"],
    },
    "disk, TB": {
        "all artifacts": lambda needs: sum(needs["disk_bytes"].values()) / 1e12,
        "without affinities": lambda needs: sum(_without_prediction(needs["disk_bytes"]).values()) / 1e12,
    },
    "number": {
        "files": lambda needs: needs["files"],
        "blocks": lambda needs: needs["blocks"],
        "most entries of a folder": lambda needs: needs["most_entries"],
    },
    "memory of a process, GiB": {
        "lookup": lambda needs: needs["worker_bytes"]["lookup"] / 2**30,
        "last group": lambda needs: needs["worker_bytes"]["last group"] / 2**30,
        "last group, simulated edges": lambda needs: needs["worker_bytes"]["last group, simulated"] / 2**30,
        "blocks": lambda needs: needs["worker_bytes"]["blocks"] / 2**30,
        "head": lambda needs: needs["head_bytes"] / 2**30,
    },
}


def draw_growth(path: Path, result: Mapping[str, Any]) -> None:
    """Write the figure of `growth_figure` as a PNG, 2000 pixels wide."""
    growth_figure(result).savefig(path, format="png")


def growth_figure(result: Mapping[str, Any]) -> Figure:
    """Return a figure of the result of growth_model.modelled: four panels, and the limits as a list."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((_WIDTH_INCHES, _HEIGHT_INCHES), _DOTS_PER_INCH, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    cubes, last = result["cubes"], result["cubes"][-1]["voxels"]
    limits = [each for each in result["limits"] if each["voxels"] and each["voxels"] <= last]
    panels, key = figure.subfigures(2, 1, height_ratios=[8.6, 0.24 * len(limits) + 0.1])
    marks = {name: each["voxels"] for each in result["volumes"] if (name := each["name"]) in (KASTHURI15, PETAVOXEL)}
    for axes, (title, lines) in zip(panels.subplots(2, 2).flat, _PANELS.items(), strict=True):
        _draw_lines(axes, title, lines, cubes)
        _mark_volumes(axes, marks)
        _mark_limits(axes, limits)
    axes = key.subplots()
    axes.axis("off")
    _list_limits(axes, limits)
    return figure


def _without_prediction(parts: Mapping[str, float]) -> dict[str, float]:
    """Return the parts of a sum that do not belong to prediction."""
    return {name: value for name, value in parts.items() if not name.startswith("affinities")}


def _draw_lines(axes: Axes, title: str, lines: Mapping[str, Value], cubes: Sequence[Needs]) -> None:
    voxels = [needs["voxels"] for needs in cubes]
    for (name, value), (colour, style) in zip(lines.items(), _LOOKS, strict=False):
        axes.plot(voxels, [value(needs) for needs in cubes], ls=style, color=colour, lw=2, label=name)
    axes.set(xscale="log", yscale="log", xlim=(voxels[0], voxels[-1]))
    axes.set_xlabel("voxels", fontsize=_FONT_POINTS)
    axes.set_ylabel(title, fontsize=_FONT_POINTS)
    axes.tick_params(labelsize=_FONT_POINTS)
    axes.spines[["top", "right"]].set_visible(False)
    # Above the panel and the numbers of limits.
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.04, 1.1),
        ncols=2,
        columnspacing=1,
        fontsize=_FONT_POINTS,
        frameon=False,
        borderpad=0,
    )


def _mark_volumes(axes: Axes, marks: Mapping[str, float]) -> None:
    """Draw a line at the size of each volume, and its name at the top."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.12)  # space for the names above the lines of needs
    for name, voxels in marks.items():
        axes.axvline(voxels, color=_FAINT, linewidth=1, zorder=0)
        axes.annotate(
            name, (voxels, 1 - _MARGIN), xycoords=axes.get_xaxis_transform(), xytext=(-3, 0),
            textcoords="offset points", fontsize=9, color="#555555", rotation=90, ha="right", va="top",
        )  # fmt: skip


def _mark_limits(axes: Axes, limits: Sequence[Mapping[str, Any]]) -> None:
    """Draw a line at the size at which each limit is reached, and its number above the panel."""
    before, row = 0.0, 0
    for number, limit in enumerate(limits, 1):
        row = (row + 1) % 2 if limit["voxels"] < _NEAR * before else 0
        before = limit["voxels"]
        axes.axvline(before, color=_LIMIT, linewidth=1, linestyle=(0, (2, 2)), zorder=0)
        axes.annotate(
            str(number), (before, 1), xycoords=axes.get_xaxis_transform(), xytext=(0, 2 + row * 12),
            textcoords="offset points", fontsize=_FONT_POINTS, color=_LIMIT, ha="center", weight="bold",
        )  # fmt: skip


def _list_limits(axes: Axes, limits: Sequence[Mapping[str, Any]]) -> None:
    for number, limit in enumerate(limits, 1):
        name = limit["limit"].replace("`", "")
        text = f"{number}   {name}: {voxels_in_words(limit['voxels'])}. Beyond it, {limit['effect']}."
        place = 1 - (number - 0.5) / len(limits)
        axes.text(_MARGIN, place, text, transform=axes.transAxes, fontsize=_FONT_POINTS, color=_LIMIT, va="center")
