"""Raw, affinities, fragments, segmentation and truth of a region -> a figure of its three central planes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import triple
from neuroseg.views.colours import colours_of, named_as_truth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Image = NDArray[np.float64]

WIDTH_PIXELS, DOTS_PER_INCH = 2000, 200
# Opacity of label colours over raw.
LABEL_OPACITY = 0.5
# Relative brightness of voxels at a border between labels.
BORDER_BRIGHTNESS = 0.6
# Rows of the figure: name, axis of the cut, vertical axis, horizontal axis.
PLANES = (("xy", 0, 1, 2), ("xz", 1, 0, 2), ("yz", 2, 0, 1))
AXES = "zyx"
# Columns that are no labels. Labels are drawn over the first one that there is.
IMAGES = ("raw", "affinities", "boundaries")
# Inches around and between panels.
MARGIN, GAP, ROW_NAME, COLUMN_NAME, TITLE = 0.12, 0.07, 0.46, 0.22, 0.28
# MIN_ROW: least height of a row, for its name. MAX_HEIGHT: greatest height of all rows, in widths of the figure.
MIN_ROW, MAX_HEIGHT = 0.42, 1.6


def segmentation_figure(
    path: Path,
    *,
    raw: NDArray[np.uint8],
    affinities: NDArray[np.uint8],
    labels: Mapping[str, NDArray[np.integer]],
    voxel_size_nm: Sequence[float],
    title: str = "",
) -> None:
    """Write a PNG, 2000 pixels wide, of the central planes of arrays `(z, y, x)` (affinities `(c, z, y, x)`, uint8).

    Rows are the planes xy, xz, yz. Columns are raw, affinities, and each array of `labels` drawn over raw. Affinities
    show the first three channels as red, green and blue, or the mean of fewer channels. Id 0 is transparent. If there
    is a `truth`, a segment that matches a true object gets its colour; `fragments` keep their own colours. All panels
    have the same scale, shown by a bar. The folder of `path` must exist.

    Raises:
        InputError: the shapes of the arrays differ, one is empty, or `voxel_size_nm` is not three sizes above 0.
    """
    shapes = {name: array.shape for name, array in labels.items()}
    _check({"raw": raw.shape, "affinities": affinities.shape[1:]} | shapes, voxel_size_nm)
    arrays: dict[str, NDArray[Any]] = {"raw": raw, "affinities": affinities, **labels}
    planes_figure(
        path,
        {name: _central_planes(array) for name, array in arrays.items()},
        extent_nm=[length * size for length, size in zip(raw.shape, voxel_size_nm, strict=True)],
        cuts=triple([length // 2 for length in raw.shape]),
        title=title,
    )


def planes_figure(
    path: Path,
    planes: Mapping[str, Sequence[NDArray[Any]]],
    *,
    extent_nm: Sequence[float],
    cuts: Sequence[int],
    title: str = "",
) -> None:
    """Write the same figure of planes that are already cut, in the order of PLANES (`coloured_planes`).

    `extent_nm`: size of the region (z, y, x). `cuts`: the voxel along z, y and x at which it is cut.
    """
    written = [f"{AXES[axis]} = {cuts[axis]}" for _, axis, _, _ in PLANES]
    _write(path, _draw(coloured_planes(planes), extent_nm, written, title))


def _check(shapes: dict[str, tuple[int, ...]], voxel_size_nm: Sequence[float]) -> None:
    """Raise InputError unless all shapes are equal, with three lengths of at least 1, and voxel sizes are valid."""
    expected = shapes["raw"]
    if len(expected) != 3 or min(expected) < 1:
        raise InputError(f"raw has shape {expected}, expected (z, y, x) with at least 1 voxel per axis")
    for name, shape in shapes.items():
        if shape != expected:
            raise InputError(
                f"{name} has shape {shape}, expected {expected} as raw", hint="crop all arrays to the same region"
            )
    if len(voxel_size_nm) != 3 or min(voxel_size_nm) <= 0:
        raise InputError(
            f"voxel_size_nm {list(voxel_size_nm)} is not three sizes above 0", hint="use for example [8, 8, 8]"
        )


def _central_planes(array: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the middle planes `(..., height, width)` of an array `(..., z, y, x)`, in the order of PLANES."""
    return [array.take(array.shape[axis - 3] // 2, axis - 3) for _, axis, _, _ in PLANES]


def matched_planes(labels: Mapping[str, list[NDArray[np.integer]]]) -> dict[str, list[NDArray[np.integer]]]:
    """Return planes of label arrays by name. If there is a `truth`, segmentations get the ids of matching true objects.

    The planes of a name may have different shapes. Each name has the same planes. `fragments` keep their ids.
    """
    planes = dict(labels)
    for name in planes if "truth" in planes else ():
        if name in ("truth", "fragments"):
            continue
        # Match all three planes together, so that an id has one colour in the whole figure.
        flat = (np.concatenate([plane.ravel() for plane in planes[each]]) for each in (name, "truth"))
        ends = np.cumsum([plane.size for plane in planes["truth"]])[:-1]
        parts = np.split(named_as_truth(*flat), ends)
        planes[name] = [p.reshape(t.shape) for p, t in zip(parts, planes["truth"], strict=True)]
    return planes


def coloured_planes(planes: Mapping[str, Sequence[NDArray[Any]]]) -> dict[str, list[Image]]:
    """Return the pictures `(height, width, 3)`, 0 to 1, of three planes for each name, in the given order of names.

    `raw` is uint8. `affinities` and `boundaries` are uint8 affinities `(c, height, width)`. All others are labels. They
    are drawn over raw; without raw, over the mean affinity; without both, over white.
    """
    images = {name: planes[name] for name in IMAGES if name in planes}
    under = [_grey(plane) for plane in next(iter(images.values()), [])]
    labels = matched_planes({name: list(each) for name, each in planes.items() if name not in images})
    columns: dict[str, list[Image]] = {}
    for name, each in planes.items():
        if name in labels:
            greys = under or [np.ones((*plane.shape, 3)) for plane in each]
            columns[name] = [covered(grey, plane) for grey, plane in zip(greys, labels[name], strict=True)]
        else:
            columns[name] = [_grey(plane) if name == "raw" else affinity_colours(plane) for plane in each]
    return columns


def _grey(plane: NDArray[np.uint8]) -> Image:
    """Return grey `(height, width, 3)`, 0 to 1, of raw `(height, width)` or of the mean of affinities."""
    mean = plane if plane.ndim == 2 else plane.mean(axis=0)
    grey: Image = np.repeat(mean[..., None] / 255, 3, axis=-1)
    return grey


def affinity_colours(plane: NDArray[np.uint8]) -> Image:
    """Return colours `(height, width, 3)`, 0 to 1, of affinities `(c, height, width)`."""
    channels = plane[:3] if len(plane) >= 3 else np.repeat(plane.mean(axis=0, keepdims=True), 3, axis=0)
    colours: Image = np.moveaxis(channels, 0, -1) / 255
    return colours


def covered(grey: Image, ids: NDArray[np.integer]) -> Image:
    """Return `grey` under translucent colours of `ids`. Borders are darker, since neighbours may look alike."""
    colours = colours_of(ids)
    opacity = LABEL_OPACITY * colours[..., 3:]
    covered = grey * (1 - opacity) + colours[..., :3] * opacity
    covered[:-1][ids[1:] != ids[:-1]] *= BORDER_BRIGHTNESS
    covered[:, :-1][(ids[:, 1:] != ids[:, :-1])] *= BORDER_BRIGHTNESS
    return covered


def _draw(columns: dict[str, list[Image]], extent: Sequence[float], cuts: Sequence[str], title: str) -> Figure:
    """Return the figure with `columns` of three images each. `extent`: size of the region in nm (z, y, x)."""
    from matplotlib.figure import Figure

    width = WIDTH_PIXELS / DOTS_PER_INCH
    column = (width - 2 * MARGIN - ROW_NAME - GAP * (len(columns) - 1)) / len(columns)
    sizes = [(extent[down], extent[right]) for _, _, down, right in PLANES]
    scale = min(column / max(right for _, right in sizes), MAX_HEIGHT * width / sum(down for down, _ in sizes))
    rows = [max(MIN_ROW, down * scale) for down, _ in sizes]
    top = MARGIN + COLUMN_NAME + (TITLE if title else 0)
    height = top + sum(rows) + GAP * (len(rows) - 1) + MARGIN
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white")
    centres = [MARGIN + ROW_NAME + number * (column + GAP) + column / 2 for number in range(len(columns))]
    for centre, name in zip(centres, columns, strict=True):
        figure.text(centre / width, 1 - (top - 0.07) / height, name, ha="center", va="bottom", fontsize=10)
    if title:
        figure.text((MARGIN + ROW_NAME) / width, 1 - MARGIN / height, title, va="top", fontsize=12, weight="bold")
    for row, (down, right) in enumerate(sizes):
        middle = height - top - sum(rows[:row]) - GAP * row - rows[row] / 2
        left = (MARGIN + ROW_NAME / 2) / width
        figure.text(left, (middle + 0.02) / height, PLANES[row][0], ha="center", va="bottom", fontsize=10)
        figure.text(left, (middle - 0.02) / height, cuts[row], ha="center", va="top", fontsize=6.5)
        for number, images in enumerate(columns.values()):
            centre = centres[number]
            box = (centre - right * scale / 2, middle - down * scale / 2, right * scale, down * scale)
            axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
            axes.imshow(images[row], aspect="auto", interpolation="nearest")
            axes.set_axis_off()
    _add_scale_bar(figure.axes[0], sizes[0][1])
    return figure


def _add_scale_bar(axes: Axes, width_nm: float) -> None:
    """Draw a scale bar with its length in the lower left corner, at most a third of the panel's width."""
    from matplotlib import patheffects

    length = round_length(width_nm / 3)
    text = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    left, right = 0.05, 0.05 + length / width_nm
    white: dict[str, Any] = {"transform": axes.transAxes, "color": "white"}
    white["path_effects"] = [patheffects.withStroke(linewidth=1.5, foreground="black")]
    axes.text((left + right) / 2, 0.09, text, ha="center", va="bottom", fontsize=8, **white)
    white["path_effects"] = [patheffects.withStroke(linewidth=4.0, foreground="black")]
    axes.plot([left, right], [0.06, 0.06], linewidth=3, solid_capstyle="butt", **white)


def round_length(longest_nm: float) -> float:
    """Return the greatest length up to `longest_nm` that is 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(longest_nm))
    return max(step * power for step in (1, 2, 5) if step * power <= longest_nm)


def _write(path: Path, figure: Figure) -> None:
    """Write the figure as PNG under a temporary name, then rename it: a reader never sees a partial file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    partial = path.with_name(f".{path.name}.partial")
    FigureCanvasAgg(figure)
    figure.savefig(partial, format="png")
    partial.replace(path)
