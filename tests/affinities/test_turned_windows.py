"""Affinities of turned windows belong to the same links as those of the volume."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from funlib.geometry import Roi
from torch import nn

from neuroseg.affinities.inference import Predictor, TileSettings
from neuroseg.affinities.turned_windows import (
    Augmentation,
    check_augmentation,
    parse_augmentation,
    sources,
    turned,
    turned_back,
)
from neuroseg.errors import InputError
from neuroseg.geometry import slices, whole
from neuroseg.networks.bundle import open_bundle
from neuroseg.networks.windows import WindowRule

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, -3, 0), (0, 0, -3))
SETTINGS = TileSettings((8, 8, 8), (4, 4, 4), 2, 255.0, OFFSETS)
SHAPE = (13, 20, 18)
CPU = torch.device("cpu")
RAW = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)


class Differences(nn.Module):
    """The logit of a link is the difference of its voxels: the same in each orientation."""

    windows = WindowRule((1, 1, 1))

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Return one channel for each offset."""
        shifted = [torch.roll(raw, [-step for step in offset], (2, 3, 4)) for offset in OFFSETS]
        return torch.cat([-(raw - other).abs() for other in shifted], 1)


class Position(nn.Module):
    """A logit that depends on the place in the window, and so on the orientation."""

    windows = WindowRule((1, 1, 1))

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Return five channels."""
        slope = torch.linspace(-1, 1, raw.shape[3]).view(1, 1, 1, -1, 1).to(raw.dtype)
        return (raw + slope).expand(-1, 5, -1, -1, -1)


def predicted(network: nn.Module, augmentation: Augmentation, roi: Roi | None = None) -> np.ndarray:
    predictor = Predictor(network, SETTINGS, CPU, augmentation)
    return predictor.predict(lambda box: RAW[slices(box)], SHAPE, roi or whole(SHAPE))


@pytest.mark.parametrize("count", [4, 8, 16])
@pytest.mark.parametrize("combine", ["mean", "minimum"])
def test_links_keep_their_affinities_in_each_orientation(count: int, combine: str) -> None:
    plain = predicted(Differences(), Augmentation())
    assert plain.std() > 5
    found = predicted(Differences(), Augmentation(count, combine))
    assert np.abs(found.astype(int) - plain).max() <= 1


def test_mean_and_minimum_of_two_orientations() -> None:
    found = {how: predicted(Position(), Augmentation(4, how)).astype(int) for how in ("mean", "minimum")}
    plain = predicted(Position(), Augmentation()).astype(int)
    assert (found["minimum"] <= found["mean"]).all()
    assert (found["minimum"] <= plain).all()
    assert (found["minimum"] < found["mean"]).any()


@pytest.mark.parametrize("augmentation", [Augmentation(8), Augmentation(16, "minimum")])
def test_any_region_has_the_bytes_of_the_whole(augmentation: Augmentation) -> None:
    complete = predicted(Position(), augmentation)
    roi = Roi((3, 5, 7), (9, 14, 9))
    assert np.array_equal(predicted(Position(), augmentation, roi), complete[(slice(None), *slices(roi))])


def test_a_turn_can_be_undone() -> None:
    tensor = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    turns = Augmentation(16).orientations()
    assert len(turns) == len(set(turns)) == 16
    assert turns[0].permutation == (0, 1, 2)
    assert not any(turns[0].flips)
    for turn in turns:
        assert torch.equal(turned_back(turned(tensor, turn), turn), tensor)
        assert np.array_equal(turned(tensor, turn).numpy(), turn.apply(tensor.numpy()))


def test_the_first_orientations_are_flips_of_y_and_x() -> None:
    flips = {(turn.permutation, turn.flips) for turn in Augmentation(4).orientations()}
    assert flips == {((0, 1, 2), (False, y, x)) for y, x in itertools.product((False, True), repeat=2)}


@pytest.mark.parametrize(
    ("text", "count", "combine"), [("1", 1, "mean"), ("8", 8, "mean"), ("16:minimum", 16, "minimum")]
)
def test_the_option_is_read(text: str, count: int, combine: str) -> None:
    assert parse_augmentation(text) == Augmentation(count, combine)
    assert parse_augmentation(str(Augmentation(count, combine))) == Augmentation(count, combine)


@pytest.mark.parametrize("text", ["", "2", "8:", "8:median", "-4", "minimum"])
def test_another_option_is_refused(text: str) -> None:
    if text == "8:":
        assert parse_augmentation(text) == Augmentation(8)
        return
    with pytest.raises(InputError, match="valid: 1, 4, 8, 16"):
        parse_augmentation(text)


@pytest.mark.parametrize(
    ("count", "offsets", "window", "free", "blend", "message"),
    [
        (4, OFFSETS, (16, 16, 16), (4, 4, 4), "gaussian", "blend gaussian"),
        (8, OFFSETS, (16, 16, 24), (4, 4, 4), "centre", "exchanges y and x"),
        (4, OFFSETS, (16, 16, 16), (0, 2, 3), "centre", r"needs \(0, 3, 3\) voxels around each tile"),
        (8, ((0, -1, 0), (0, 0, -2)), (16, 16, 16), (4, 4, 4), "centre", "no offset"),
    ],
)
def test_windows_that_cannot_be_turned_are_refused(
    count: int,
    offsets: tuple[tuple[int, int, int], ...],
    window: tuple[int, int, int],
    free: tuple[int, int, int],
    blend: str,
    message: str,
) -> None:
    check_augmentation(Augmentation(), offsets, window, free, blend)
    with pytest.raises(InputError, match=message):
        check_augmentation(Augmentation(count), offsets, window, free, blend)


def test_a_flipped_link_is_read_one_offset_farther() -> None:
    flip = Augmentation(4).orientations()[2]
    assert flip.flips == (False, True, False)
    found = sources(flip, OFFSETS)
    assert [source.channel for source in found] == [0, 1, 2, 3, 4]
    assert [source.shift for source in found] == [(0, 0, 0), (0, -1, 0), (0, 0, 0), (0, -3, 0), (0, 0, 0)]


def test_a_real_network_gives_other_bytes_with_augmentation(tiny_model: str) -> None:
    network = open_bundle(tiny_model).network()
    settings = TileSettings((16, 16, 16), (8, 8, 8), 1, 255.0, OFFSETS[:3])
    found = []
    for augmentation in (Augmentation(), Augmentation(8)):
        predictor = Predictor(network, settings, CPU, augmentation)
        found.append(predictor.predict(lambda box: RAW[slices(box)], SHAPE, whole(SHAPE)))
    difference = np.abs(found[0].astype(int) - found[1])
    assert 0 < difference.mean() < 60
