"""Points in nm -> pixels of a picture, in parallel projection: lengths keep their proportions at any distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError

Points = NDArray[np.float64]

# Azimuth and elevation in degrees. Front: x to the right, y down, as in a section. Side: z to the right, y down.
# Top: x to the right, z up.
VIEWS = {"front": (0.0, 0.0), "side": (90.0, 0.0), "top": (0.0, 90.0)}


@dataclass(frozen=True)
class Frame:
    """The part of space that a picture shows.

    `axes` `(3, 3)`: rows are the directions down, right and away from the viewer, as unit vectors (z, y, x).
    `corner_nm`: the upper left corner of the picture along the first two. `near_nm` and `far_nm`: the depth of the
    nearest and the farthest point along the third. Shape (height, width) in pixels.
    """

    axes: Points
    corner_nm: tuple[float, float]
    near_nm: float
    far_nm: float
    nm_per_pixel: float
    height: int
    width: int

    def project(self, points: NDArray[Any]) -> Points:
        """Return row, column and depth in pixels of points `(n, 3)` in nm (z, y, x). The first pixel is [0, 1)."""
        placed = points.astype(np.float64) @ self.axes.T
        placed[:, :2] -= self.corner_nm
        return placed / self.nm_per_pixel


def parse_view(text: str) -> tuple[float, float]:
    """Return azimuth and elevation in degrees of a view: a name, or AZIMUTH,ELEVATION. Raises InputError."""
    if text in VIEWS:
        return VIEWS[text]
    try:
        azimuth, elevation = (float(part) for part in text.split(","))
        if not -360 <= azimuth <= 360 or not -90 <= elevation <= 90:
            raise ValueError(text)
    except ValueError as error:
        raise InputError(
            f"--view {text!r} is not a view, expected {', '.join(VIEWS)} or two angles",
            hint="give azimuth (-360 to 360) and elevation (-90 to 90) in degrees, such as --view 30,20",
        ) from error
    return azimuth, elevation


def view_axes(azimuth: float, elevation: float) -> Points:
    """Return the directions down, right and away from the viewer `(3, 3)`, unit vectors (z, y, x).

    At 0, 0 the viewer looks along z. The azimuth moves the viewer to the right (towards x), the elevation moves the
    viewer up (towards lower y).
    """
    turn, rise = np.deg2rad([azimuth, elevation])
    z, y, x = np.eye(3)
    right = np.cos(turn) * x + np.sin(turn) * z
    level = np.cos(turn) * z - np.sin(turn) * x
    down = np.cos(rise) * y - np.sin(rise) * level
    return np.array([down, right, np.cos(rise) * level + np.sin(rise) * y])


def frame_around(points: NDArray[Any], axes: Points, size_pixels: int, margin: float = 0.04) -> Frame:
    """Return a frame that shows all points `(n, 3)` in nm. Its longest edge has `size_pixels`.

    `margin` is the empty part of the longest edge on each side.
    """
    placed = points.astype(np.float64) @ axes.T
    (*low, near), (*high, far) = placed.min(axis=0).tolist(), placed.max(axis=0).tolist()
    extent = np.array(high) - low
    nm_per_pixel = float(extent.max()) / (size_pixels * (1 - 2 * margin))
    border = margin * size_pixels * nm_per_pixel
    height, width = (max(1, round(float(length + 2 * border) / nm_per_pixel)) for length in extent)
    middle = (np.array(low) + high) / 2
    corner = middle - np.array([height, width]) * nm_per_pixel / 2
    return Frame(axes, (float(corner[0]), float(corner[1])), near, far, nm_per_pixel, height, width)
