"""Targets of small arrays, checked by hand."""

import numpy as np
import pytest
import torch

from neuroseg.networks.orientations import orientations
from neuroseg.training.data.affinity_targets import UNLABELLED, affinity_targets, with_widened_borders
from neuroseg.training.data.descriptors import shape_descriptors
from neuroseg.training.learning.losses import balanced_cross_entropy, training_loss

ROW = np.array([[[1, 1, 1, 2, 2, 0]]])


def test_borders_are_widened_by_one_voxel_on_each_side() -> None:
    assert with_widened_borders(ROW, axes=(0, 1, 2), dilations=0).tolist() == [[[1, 1, 0, 0, 0, 0]]]
    assert with_widened_borders(ROW, axes=(0, 1), dilations=0).tolist() == ROW.tolist()
    assert with_widened_borders(ROW, axes=(2,), dilations=1).tolist() == [[[1, 0, 0, 0, 0, 0]]]


def test_borders_can_have_only_an_upper_side() -> None:
    row = np.array([[[1] * 4 + [2] * 4]])
    assert with_widened_borders(row, axes=(2,), dilations=0, sides="upper").tolist() == [[[1, 1, 1, 1, 0, 2, 2, 2]]]
    assert with_widened_borders(row, axes=(2,), dilations=1, sides="upper").tolist() == [[[1, 1, 1, 0, 0, 0, 2, 2]]]
    assert with_widened_borders(row, axes=(2,), dilations=1).tolist() == [[[1, 1, 0, 0, 0, 0, 2, 2]]]


def test_an_affinity_links_a_voxel_to_its_lower_neighbour() -> None:
    targets, mask = affinity_targets(ROW, [(0, 0, -1), (0, 0, -3), (0, 0, 1)])
    assert targets[0].ravel().tolist() == [0, 1, 1, 0, 1, 0]
    assert mask[0].ravel().tolist() == [0, 1, 1, 1, 1, 1]
    assert targets[1].ravel().tolist() == [0, 0, 0, 0, 0, 0]
    assert mask[1].ravel().tolist() == [0, 0, 0, 1, 1, 1]
    assert targets[2].ravel().tolist() == [1, 1, 0, 1, 0, 0]


def test_unlabelled_voxels_have_no_targets_and_form_no_border() -> None:
    row = np.array([[[UNLABELLED, UNLABELLED, 1, 1, 2, 2, UNLABELLED]]])
    widened = with_widened_borders(row, axes=(0, 1, 2), dilations=0)
    assert widened.tolist() == [[[UNLABELLED, UNLABELLED, 1, 0, 0, 2, UNLABELLED]]]
    targets, mask = affinity_targets(row, [(0, 0, -1)])
    assert targets.ravel().tolist() == [0, 0, 0, 1, 0, 1, 0]
    assert mask.ravel().tolist() == [0, 0, 0, 1, 1, 1, 0]


def test_there_are_48_orientations_and_16_keep_z() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    assert len({o.apply(array).tobytes() + bytes(o.apply(array).shape) for o in orientations("all")}) == 48
    assert len(orientations("in_plane")) == 16
    assert all(o.permutation[0] == 0 for o in orientations("in_plane"))


def test_the_source_of_an_orientation_has_the_shape_that_gives_the_wanted_one() -> None:
    for orientation in orientations("all"):
        assert orientation.apply(np.zeros(orientation.source_shape((2, 3, 4)))).shape == (2, 3, 4)


@pytest.mark.parametrize("number", [0, 5, 17, 30, 47])
def test_descriptors_turn_with_their_labels(number: int) -> None:
    orientation = orientations("all")[number]
    labels = (np.random.default_rng(0).random((9, 8, 10)) > 0.4).astype(np.int32)
    turned = shape_descriptors(np.ascontiguousarray(orientation.apply(labels)), (2, 2, 2))
    assert np.allclose(orientation.apply_to_descriptors(shape_descriptors(labels, (2, 2, 2))), turned, atol=1e-4)


def test_the_offset_to_the_centre_of_mass_points_inwards() -> None:
    labels = np.zeros((1, 1, 21), np.int32)
    labels[..., 5:16] = 1
    offset = shape_descriptors(labels, (1, 1, 4))[2, 0, 0]
    assert offset[5] > 0.3
    assert offset[15] == pytest.approx(-offset[5], abs=1e-4)
    assert offset[10] == pytest.approx(0, abs=1e-5)
    assert (offset[:5] == 0).all()


def test_both_classes_weigh_the_same() -> None:
    targets = torch.zeros(1, 1, 1, 1, 10)
    targets[..., 0:2] = 1
    logits = torch.where(targets > 0.5, -3.0, 3.0)  # wrong everywhere by the same amount
    loss = balanced_cross_entropy(logits, targets, torch.ones_like(targets))
    half_right = torch.where(targets > 0.5, 30.0, 3.0)  # the rare class correct: half of the loss remains
    half = balanced_cross_entropy(half_right, targets, torch.ones_like(targets))
    assert loss.item() == pytest.approx(3.0486, abs=1e-3)
    assert half.item() == pytest.approx(loss.item() / 2, rel=1e-3)


def test_masked_voxels_and_the_margin_do_not_count() -> None:
    targets = torch.ones(1, 3, 2, 2, 2)
    logits = torch.full((1, 3, 4, 4, 4), -50.0)
    logits[:, :, 1:3, 1:3, 1:3] = 50.0
    batch = {"targets": targets, "mask": torch.ones_like(targets)}
    loss = training_loss(logits, batch, affinity_channels=3, auxiliary_weight=1, descriptor_weight=1)
    assert loss["total"].item() == pytest.approx(0, abs=1e-6)
    assert balanced_cross_entropy(logits, torch.ones_like(logits), torch.zeros_like(logits)).tolist() == [0, 0, 0]
