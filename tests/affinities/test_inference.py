"""Prediction gives the same bytes for every region."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from funlib.geometry import Roi

from neuroseg.affinities.device import choose_device
from neuroseg.affinities.inference import Predictor, TileSettings
from neuroseg.affinities.tiles import blending_weights, read_reflected
from neuroseg.errors import InputError, NeurosegError
from neuroseg.geometry import slices, whole
from neuroseg.networks.architectures import build_network
from neuroseg.networks.bundle import open_bundle

SHAPE = (30, 41, 22)
OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
SETTINGS = TileSettings((16, 16, 16), (8, 8, 8), 2, 255.0, OFFSETS)


BLENDED = replace(SETTINGS, blend="gaussian")


def predicted(predictor: Predictor, raw: np.ndarray) -> np.ndarray:
    """The affinities of a whole volume."""
    return predictor.predict(lambda roi: raw[slices(roi)], raw.shape, whole(raw.shape))


@pytest.fixture
def predictor(tiny_model: str) -> Predictor:
    return Predictor(open_bundle(tiny_model).network(), SETTINGS, torch.device("cpu"))


@pytest.fixture
def raw() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)


@pytest.mark.parametrize("settings", [SETTINGS, BLENDED], ids=["centre", "gaussian"])
def test_any_region_has_the_bytes_of_the_whole(tiny_model: str, raw: np.ndarray, settings: TileSettings) -> None:
    predictor = Predictor(open_bundle(tiny_model).network(), settings, torch.device("cpu"))

    def read(roi: Roi) -> np.ndarray:
        return raw[slices(roi)]

    complete = predictor.predict(read, SHAPE, whole(SHAPE))
    assert complete.dtype == np.uint8
    assert complete.std() > 0
    for roi in (Roi((3, 5, 7), (20, 30, 9)), Roi((16, 16, 16), (1, 1, 1)), Roi((0, 0, 0), (30, 41, 1))):
        assert np.array_equal(predictor.predict(read, SHAPE, roi), complete[(slice(None), *slices(roi))])


@pytest.mark.parametrize("settings", [SETTINGS, BLENDED], ids=["centre", "gaussian"])
def test_a_region_has_the_bytes_of_its_windows_one_by_one(
    tiny_model: str, raw: np.ndarray, settings: TileSettings
) -> None:
    """The twin: each window is read, computed and added up by itself, on the host."""
    predictor = Predictor(open_bundle(tiny_model).network(), settings, torch.device("cpu"))
    roi = Roi((3, 5, 7), (20, 30, 9))
    total = np.zeros((3, *SHAPE), np.float32)
    for tile in settings.tiles(roi):
        window = read_reflected(lambda at: raw[slices(at)], settings.window_of(tile), SHAPE)
        batch = torch.zeros((2, 1, *window.shape))
        batch[0, 0] = torch.from_numpy(window)
        affinities = torch.sigmoid(predictor.outputs(batch)[0].float()).numpy()
        box = settings.window_of(tile)
        if settings.blend == "centre":
            box, affinities = tile, affinities[:, 8:24, 8:24, 8:24]
        else:
            affinities = affinities * blending_weights(settings.output, settings.context)
        part = box.intersect(whole(SHAPE))
        total[(slice(None), *slices(part))] += affinities[(slice(None), *slices(part, box.begin))]
    expected = (total * np.float32(255) + np.float32(0.5)).astype(np.uint8)[(slice(None), *slices(roi))]
    assert np.array_equal(predictor.predict(lambda at: raw[slices(at)], SHAPE, roi), expected)


def test_the_gaussian_blend_is_the_weighted_mean_of_the_windows(tiny_model: str, raw: np.ndarray) -> None:
    network = open_bundle(tiny_model).network()
    blending = Predictor(network, BLENDED, torch.device("cpu"))
    bare = Predictor(network, TileSettings((32, 32, 32), (0, 0, 0), 2, 255.0, OFFSETS), torch.device("cpu"))
    roi = Roi((16, 16, 0), (1, 1, 22))
    found = blending.predict(lambda at: raw[slices(at)], SHAPE, roi)
    # The voxel (16, 16, x) lies 24 or 8 voxels deep in the windows that begin at -8 and 8 along z and y.
    total, weights = np.zeros((3, 22)), np.zeros(22)
    for z, y, x in itertools.product((-8, 8), (-8, 8), (-24, -8, 8)):
        window = read_reflected(lambda at: raw[slices(at)], Roi((z, y, x), (32, 32, 32)), SHAPE)
        affinities = predicted(bare, window)[:, 16 - z, 16 - y] / 255
        inside = np.arange(max(0, x), min(22, x + 32))
        place = [(2 * (16 - begin) / 31 - 1) for begin in (z, y)]
        distance = place[0] ** 2 + place[1] ** 2 + (2 * (inside - x) / 31 - 1) ** 2
        weight = 1e-6 + np.exp(-distance / (2 * 0.2**2))
        total[:, inside] += weight * affinities[:, inside - x]
        weights[inside] += weight
    assert np.abs(found[:, 0, 0] - 255 * total / weights).max() < 1.5, "each term was rounded to 1 / 255"


def test_values_are_the_rounded_sigmoid_of_the_network(tiny_model: str, raw: np.ndarray) -> None:
    network = open_bundle(tiny_model).network()
    window = raw[:, :32, :].repeat(2, axis=2)[:32, :32, :32]
    window = np.pad(window, [(0, 32 - s) for s in window.shape], mode="edge")
    bare = Predictor(network, TileSettings((32, 32, 32), (0, 0, 0), 1, 255.0, OFFSETS), torch.device("cpu"))
    found = predicted(bare, window)[:, 8:24, 8:24, 8:24]
    with torch.inference_mode():
        exact = torch.sigmoid(network(torch.from_numpy(window / 255.0).float()[None, None]))[0].numpy()
    expected = np.round(255 * exact[:, 8:24, 8:24, 8:24])
    assert np.abs(found.astype(float) - expected).max() <= 4, "bfloat16 moves a value by no more"


@pytest.mark.parametrize("blend", ["centre", "gaussian"])
def test_nan_is_refused(tiny_model: str, blend: str) -> None:
    network = open_bundle(tiny_model).network()
    bias: torch.Tensor = network.head.bias.data  # type: ignore[union-attr,operator,assignment]
    settings, blank = TileSettings((16, 16, 16), (8, 8, 8), 2, 255.0, OFFSETS, blend), np.zeros((16, 16, 16), np.uint8)
    bias[1] = math.inf
    assert predicted(Predictor(network, settings, torch.device("cpu")), blank)[1].max() > 0, "a large logit is valid"
    bias[1] = math.nan
    with pytest.raises(NeurosegError, match="the network returned NaN: its weights contain NaN, or"):
        predicted(Predictor(network, settings, torch.device("cpu")), blank)


def test_windows_that_the_network_cannot_pool_are_refused(tiny_model: str) -> None:
    settings = TileSettings((15, 16, 16), (8, 8, 8), 1, 255.0, OFFSETS)
    with pytest.raises(InputError, match="the network does not accept windows"):
        Predictor(open_bundle(tiny_model).network(), settings, torch.device("cpu"))


VALID = TileSettings((8, 8, 8), (6, 10, 10), 1, 255.0, OFFSETS)


def test_a_network_of_valid_convolutions_predicts_the_tile_in_the_middle(raw: np.ndarray) -> None:
    torch.manual_seed(0)
    network = build_network("mala", {"widths": [4, 6]}).eval()
    predictor = Predictor(network, VALID, torch.device("cpu"))
    complete = predictor.predict(lambda at: raw[slices(at)], SHAPE, whole(SHAPE))
    window = read_reflected(
        lambda at: raw[slices(at)], Roi((8, 16, 8), (8, 8, 8)).grow((6, 10, 10), (6, 10, 10)), SHAPE
    )
    with torch.inference_mode():
        expected = torch.sigmoid(network(torch.from_numpy(window)[None, None] / 255.0))[0].numpy() * 255
    found = complete[:, 8:16, 16:24, 8:16].astype(float)
    assert found.std() > 0
    assert np.abs(found - expected).max() <= 4, "bfloat16 moves a value by no more"
    part = predictor.predict(lambda at: raw[slices(at)], SHAPE, Roi((3, 5, 7), (9, 20, 9)))
    assert np.array_equal(part, complete[:, 3:12, 5:25, 7:16])


@pytest.mark.parametrize(
    ("settings", "message"),
    [(replace(VALID, context=(5, 10, 10)), "loses"), (replace(VALID, blend="gaussian"), "use centre"),
     (replace(VALID, context=(6, 11, 10)), "does not accept windows")],
)  # fmt: skip
def test_invalid_windows_of_valid_convolutions_are_refused(settings: TileSettings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Predictor(build_network("mala", {"widths": [4, 6]}), settings, torch.device("cpu"))


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "mps"])
def test_a_missing_device_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="device"):
        choose_device(name)


@pytest.mark.parametrize("settings", [SETTINGS, BLENDED], ids=["centre", "gaussian"])
def test_a_region_is_read_once(tiny_model: str, raw: np.ndarray, settings: TileSettings) -> None:
    read: list[Roi] = []
    windows: list[int] = []

    def counting(roi: Roi) -> np.ndarray:
        read.append(roi)
        return raw[slices(roi)]

    predictor = Predictor(open_bundle(tiny_model).network(), settings, torch.device("cpu"))
    roi = Roi((0, 16, 0), (16, 16, 16))
    finish = predictor.begin(counting, SHAPE, roi, windows.append)
    reach = 8 if settings.blend == "centre" else 24
    assert read == [
        Roi((0, max(0, 16 - reach), 0), (min(30, 16 + reach), min(41, 16 + 2 * reach), min(22, 16 + reach)))
    ]
    affinities = finish()
    assert len(read) == 1
    assert sum(windows) == len(settings.tiles(roi))
    assert np.array_equal(affinities, predictor.predict(counting, SHAPE, roi))


def test_two_threads_share_a_predictor(predictor: Predictor, raw: np.ndarray) -> None:
    volumes = [raw + np.uint8(shift) for shift in range(8)]
    alone = [predicted(predictor, volume) for volume in volumes]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda volume: predicted(predictor, volume), volumes))
    for expected, found in zip(alone, together, strict=True):
        assert np.array_equal(found, expected)


def test_prediction_uses_one_thread_and_restores_the_number(predictor: Predictor, raw: np.ndarray) -> None:
    seen = []
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        predictor.predict(
            lambda roi: raw[slices(roi)], SHAPE, whole(SHAPE), lambda windows: seen.append(torch.get_num_threads())
        )
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert set(seen) == {1}
