"""Pixels of rendered boxes: size, place, order in depth, and views."""

from __future__ import annotations

import numpy as np
import pytest

from neuroseg.errors import InputError
from neuroseg.views.camera import Frame, frame_around, parse_view, view_axes
from neuroseg.views.mesh import mesh_of
from neuroseg.views.rasteriser import Surface, rendered, vertex_normals

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def box(begin: tuple[int, int, int], end: tuple[int, int, int], size_nm: tuple[float, float, float], colour) -> Surface:  # type: ignore[no-untyped-def]
    """The surface of a box of voxels."""
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[tuple(slice(b, e) for b, e in zip(begin, end, strict=True))] = 1
    return Surface(*mesh_of(labels, 1, size_nm), colour)


def framed(surfaces: list[Surface], view: str, size: int = 300) -> Frame:
    points = np.concatenate([surface.vertices for surface in surfaces])
    return frame_around(points, view_axes(*parse_view(view)), size)


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """First row, row after the last, first column, column after the last."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def is_drawn(picture: np.ndarray) -> np.ndarray:
    return (picture < 0.99).any(axis=-1)


@pytest.mark.parametrize(
    ("view", "height_nm", "width_nm"), [("front", 200, 300), ("side", 200, 400), ("top", 400, 300)]
)
def test_a_box_has_its_size_in_pixels_for_anisotropic_voxels(view: str, height_nm: float, width_nm: float) -> None:
    surface = box((5, 5, 5), (15, 25, 35), (40, 10, 10), RED)  # 400 x 200 x 300 nm
    frame = framed([surface], view)
    assert max(frame.height, frame.width) == 300
    picture = rendered([surface], frame)
    assert picture.shape == (frame.height, frame.width, 3)
    top, bottom, left, right = bounds(is_drawn(picture))
    assert bottom - top == pytest.approx(height_nm / frame.nm_per_pixel, abs=1.01)
    assert right - left == pytest.approx(width_nm / frame.nm_per_pixel, abs=1.01)
    # It fills its outline except at the cut corners, and stands in the middle.
    assert is_drawn(picture).sum() > 0.97 * (bottom - top) * (right - left)
    assert (top + bottom) / 2 == pytest.approx(frame.height / 2, abs=1)


def test_the_axes_point_where_the_views_say() -> None:
    low, x_end = ((5, 5, 5), (10, 10, 10)), ((5, 5, 30), (10, 10, 35))
    y_end, z_end = ((5, 30, 5), (10, 35, 10)), ((30, 5, 5), (35, 10, 10))

    def centre(view: str, marked: tuple, other: tuple) -> tuple[float, float]:  # type: ignore[type-arg]
        surfaces = [box(*low, (10, 10, 10), BLUE), box(*other, (10, 10, 10), BLUE), box(*marked, (10, 10, 10), RED)]
        frame = framed(surfaces, view)
        picture = rendered(surfaces, frame)
        top, bottom, left, right = bounds(picture[..., 0] > picture[..., 2] + 0.2)
        return (top + bottom) / frame.height - 1, (left + right) / frame.width - 1

    row, column = centre("front", x_end, y_end)
    assert column > 0.5 > -0.5 > row  # x to the right
    row, column = centre("front", y_end, x_end)
    assert row > 0.5 > -0.5 > column  # y down
    row, column = centre("side", z_end, y_end)
    assert column > 0.5 > -0.5 > row  # z to the right
    row, column = centre("top", z_end, x_end)
    assert row < -0.5 < 0.5  # z up
    assert column < -0.5


def test_the_nearest_surface_covers_the_others_in_any_order() -> None:
    near, far = box((2, 10, 10), (4, 20, 20), (10, 10, 10), RED), box((30, 5, 5), (32, 25, 25), (10, 10, 10), BLUE)
    frame = framed([near, far], "front")
    for surfaces in ([near, far], [far, near]):
        picture = rendered(surfaces, frame)
        middle = picture[frame.height // 2, frame.width // 2]
        assert middle[0] > middle[2] + 0.2
        corner = picture[frame.height // 8, frame.width // 8]
        assert corner[2] > corner[0] + 0.2
    behind = rendered([near, far], framed([near, far], "180,0"))
    assert behind[behind.shape[0] // 2, behind.shape[1] // 2, 2] > 0.4


def test_surfaces_outside_the_frame_are_cut_off() -> None:
    surface = box((5, 5, 5), (35, 35, 35), (10, 10, 10), RED)
    frame = Frame(view_axes(0, 0), (100.0, 100.0), 50, 350, 1.0, 50, 60)
    assert is_drawn(rendered([surface], frame)).all()
    assert not is_drawn(rendered([surface], Frame(frame.axes, (900.0, 900.0), 50, 350, 1.0, 50, 60))).any()


def test_a_surface_that_leaves_the_frame_does_not_enter_on_the_other_side() -> None:
    surface = box((5, 5, 5), (10, 15, 15), (10, 10, 10), RED)  # y and x from 50 to 150 nm
    drawn = is_drawn(rendered([surface], Frame(view_axes(0, 0), (100.0, 100.0), 50, 100, 1.0, 200, 200)))
    assert bounds(drawn) == (0, 50, 0, 50)


@pytest.mark.parametrize("face", [(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_a_triangle_fills_half_of_its_box(face: tuple[int, int, int]) -> None:
    corners = np.array([[0, 0, 0], [0, 100, 0], [0, 0, 100]], np.float32)
    surface = Surface(corners, np.array([face], np.int32), RED)
    drawn = is_drawn(rendered([surface], Frame(view_axes(0, 0), (0.0, 0.0), 0, 1, 1.0, 100, 100)))
    assert drawn.sum() == pytest.approx(5000, rel=0.03)
    assert drawn[10, 10]
    assert not drawn[90, 90]


def test_normals_of_a_ball_point_outward() -> None:
    z, y, x = np.indices((30, 30, 30)) + 0.5
    vertices, faces = mesh_of((z - 15) ** 2 + (y - 15) ** 2 + (x - 15) ** 2 < 100, 1, (1, 1, 1))
    radial = (vertices - 15) / np.linalg.norm(vertices - 15, axis=1, keepdims=True)
    assert ((vertex_normals(vertices, faces) * radial).sum(axis=1) > 0.97).all()


def test_axes_are_orthogonal_and_not_mirrored() -> None:
    for view in ("front", "side", "top", "30,20", "-100,-45"):
        axes = view_axes(*parse_view(view))
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
        # Right x down = away, in the right-handed order x, y, z.
        down, right, away = axes[:, ::-1]
        np.testing.assert_allclose(np.cross(right, down), away, atol=1e-12)


@pytest.mark.parametrize("view", ["back", "1", "1,2,3", "nan,0", "0,91", "x,y", ""])
def test_a_wrong_view_is_refused(view: str) -> None:
    with pytest.raises(InputError, match="expected front, side, top or two angles"):
        parse_view(view)
