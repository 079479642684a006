"""The synthetic volume has a connected truth and realistic grey values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from neuroseg.errors import InputError
from neuroseg.views.components import connected_labels
from neuroseg.views.micrograph import border_distance
from neuroseg.views.smooth import smooth_noise
from neuroseg.views.synthetic import SyntheticVolume, synthetic_volume

FACES = ndimage.generate_binary_structure(3, 1)


@pytest.fixture(scope="module")
def volume() -> SyntheticVolume:
    return synthetic_volume((56, 64, 60), seed=4)


def assert_dense_and_connected(labels: np.ndarray) -> None:
    ids = np.unique(labels)
    assert ids.tolist() == list(range(1, len(ids) + 1))
    parts = [ndimage.label(labels == i, FACES)[1] for i in ids]
    assert parts == [1] * len(ids)


def test_same_seed_gives_the_same_bytes(volume: SyntheticVolume) -> None:
    again = synthetic_volume((56, 64, 60), seed=4)
    assert again.raw.tobytes() == volume.raw.tobytes()
    assert again.labels.tobytes() == volume.labels.tobytes()


def test_another_seed_gives_other_bytes(volume: SyntheticVolume) -> None:
    other = synthetic_volume((56, 64, 60), seed=5)
    assert (other.labels != volume.labels).mean() > 0.5
    assert (other.raw != volume.raw).mean() > 0.9


def test_shapes_and_dtypes(volume: SyntheticVolume) -> None:
    assert volume.raw.shape == volume.labels.shape == (56, 64, 60)
    assert (volume.raw.dtype, volume.labels.dtype) == (np.uint8, np.uint32)
    assert volume.voxel_size_nm == (10, 10, 10)


def test_every_voxel_belongs_to_a_connected_neurite_of_a_dense_id(volume: SyntheticVolume) -> None:
    assert_dense_and_connected(volume.labels)
    assert np.bincount(volume.labels.ravel())[1:].min() >= 50


def test_membranes_are_darker_than_cytoplasm(volume: SyntheticVolume) -> None:
    distance = border_distance(volume.labels)
    membrane = volume.raw[distance < 1]
    # Not deeper: mitochondria are as dark as membranes.
    cytoplasm = volume.raw[(distance > 3) & (distance < 5)]
    assert membrane.mean() < cytoplasm.mean() - 30
    assert np.percentile(membrane, 75) < np.percentile(cytoplasm, 25)


def test_greys_are_those_of_fib_25(volume: SyntheticVolume) -> None:
    # The mean 130 and deviation 33 of FIB-25's second test volume; one small volume varies around them.
    assert 115 < volume.raw.mean() < 145
    assert 25 < volume.raw.std() < 40
    assert volume.raw.min() >= 31
    assert volume.raw.max() <= 217


def test_neurites_are_thick_and_thin(volume: SyntheticVolume) -> None:
    ids = np.arange(1, volume.labels.max() + 1)
    radii = ndimage.maximum(border_distance(volume.labels), volume.labels, ids)
    assert len(ids) >= 10
    assert np.percentile(radii, 25) < 6
    assert radii.max() > 14


def test_an_odd_thin_shape_works() -> None:
    thin = synthetic_volume((20, 61, 47), seed=1)
    assert thin.raw.shape == (20, 61, 47)
    assert_dense_and_connected(thin.labels)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 2), (5, 5, 5)])
def test_a_sliver_is_one_neurite(shape: tuple[int, int, int]) -> None:
    # Fewer voxels than the smallest neurite has; every seed must find a place to grow.
    assert [(synthetic_volume(shape, seed).labels == 1).all() for seed in range(5)] == [True] * 5


@pytest.mark.parametrize(("shape", "seed"), [((8, 0, 8), 0), ((8, 8), 0), ((8, 8, 8), -1)])
def test_an_invalid_shape_or_seed_is_refused(shape: tuple[int, int, int], seed: int) -> None:
    with pytest.raises(InputError, match="hint: use"):
        synthetic_volume(shape, seed)


def test_equal_labels_that_do_not_touch_become_two() -> None:
    labels = np.array([[[7, 7, 0, 7], [0, 0, 0, 7]]])
    assert connected_labels(labels, min_voxels=1).tolist() == [[[1, 1, 2, 3], [2, 2, 2, 3]]]


def test_a_diagonal_contact_does_not_connect() -> None:
    labels = np.array([[[5, 6], [6, 5]]])
    assert np.unique(connected_labels(labels, min_voxels=1)).tolist() == [1, 2, 3, 4]


def test_a_small_component_joins_the_neighbour_it_touches_most() -> None:
    labels = np.array([[[1, 1, 1, 1], [1, 3, 2, 2], [1, 1, 2, 2]]])
    assert connected_labels(labels, min_voxels=2).tolist() == [[[1, 1, 1, 1], [1, 1, 2, 2], [1, 1, 2, 2]]]


def test_smooth_noise_has_the_same_deviation_everywhere() -> None:
    rng = np.random.default_rng(0)
    fields = np.stack([smooth_noise((9, 5, 4), 3.5, rng) for _ in range(600)])
    np.testing.assert_allclose(fields.std(axis=0), 1, atol=0.15)
    assert np.corrcoef(fields[:, 4, 2, 1], fields[:, 5, 2, 1])[0, 1] > 0.8
    assert abs(np.corrcoef(fields[:, 0, 2, 1], fields[:, 8, 2, 1])[0, 1]) < 0.2
