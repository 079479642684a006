"""Surfaces of hand-made segments: bounds in nm, volume, orientation, closedness."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest

from neuroseg.errors import InputError
from neuroseg.views.mesh import mesh_of, volume_nm3


def edges_of(faces: np.ndarray) -> Counter[tuple[int, int]]:
    """How often each directed edge occurs."""
    return Counter((int(face[k]), int(face[(k + 1) % 3])) for face in faces for k in range(3))


def is_closed(faces: np.ndarray) -> bool:
    """Whether each edge belongs to two faces that run through it in opposite directions."""
    edges = edges_of(faces)
    return all(count == 1 and edges[(end, start)] == 1 for (start, end), count in edges.items())


def test_one_voxel_has_a_closed_surface_around_its_centre() -> None:
    labels = np.zeros((3, 3, 3), np.uint64)
    labels[1, 2, 0] = 7
    vertices, faces = mesh_of(labels, 7, (1, 1, 1))
    assert (vertices.dtype, faces.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(vertices.min(axis=0), [1, 2, 0])
    np.testing.assert_array_equal(vertices.max(axis=0), [2, 3, 1])
    np.testing.assert_allclose(vertices.mean(axis=0), [1.5, 2.5, 0.5])
    assert is_closed(faces)
    # An octahedron with its corners in the middle of the voxel's faces.
    assert volume_nm3(vertices, faces) == pytest.approx(1 / 6)


def test_a_box_has_its_bounds_and_nearly_its_volume_in_nm() -> None:
    labels = np.zeros((6, 7, 8), np.uint64)
    labels[1:3, 2:5, 3:7] = 2**63 + 1
    vertices, faces = mesh_of(labels, 2**63 + 1, (40, 10, 5), (100, -20, 7))
    np.testing.assert_array_equal(vertices.min(axis=0), [140, 0, 22])
    np.testing.assert_array_equal(vertices.max(axis=0), [220, 30, 42])
    assert is_closed(faces)
    # The surface cuts the edges of the box: 1/8 of a voxel at each outer voxel edge, less at corners.
    full = 2 * 3 * 4 * 40 * 10 * 5
    assert 0.75 * full < volume_nm3(vertices, faces) < full


def test_the_volume_of_a_large_segment_is_that_of_its_voxels() -> None:
    z, y, x = np.indices((40, 40, 40))
    ball = (z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 18**2
    vertices, faces = mesh_of(ball, 1, (1, 1, 1))
    assert volume_nm3(vertices, faces) == pytest.approx(ball.sum(), rel=0.01)


def test_a_segment_at_the_borders_of_the_array_is_closed_there() -> None:
    vertices, faces = mesh_of(np.ones((2, 3, 4), np.uint8), 1, (1, 1, 1))
    assert is_closed(faces)
    np.testing.assert_array_equal([vertices.min(axis=0), vertices.max(axis=0)], [[0, 0, 0], [2, 3, 4]])


def test_a_segment_without_voxels_has_an_empty_mesh() -> None:
    for labels in (np.zeros((2, 2, 2), np.uint64), np.zeros((0, 2, 2), np.uint64)):
        vertices, faces = mesh_of(labels, 5, (1, 1, 1))
        assert (vertices.shape, faces.shape) == ((0, 3), (0, 3))
        assert volume_nm3(vertices, faces) == 0


def test_without_scikit_image_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(InputError, match=r"pip install 'neuroseg\[viewing\]'"):
        mesh_of(np.ones((2, 2, 2), np.uint8), 1, (1, 1, 1))
