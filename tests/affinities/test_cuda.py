"""Prediction, transfers and parallel training on a GPU."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from funlib.geometry import Roi
from torch import nn

from neuroseg.affinities.inference import Predictor, TileSettings
from neuroseg.affinities.transfers import Transfers
from neuroseg.affinities.turned_windows import NO_AUGMENTATION, Augmentation
from neuroseg.blocks import whole_lattice
from neuroseg.geometry import slices, whole
from neuroseg.networks.architectures import build_network
from neuroseg.networks.bundle import open_bundle
from neuroseg.training.learning.processes import ProcessGroup
from neuroseg.training.learning.trainer import Trainer
from neuroseg.training.settings import TrainingSettings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
    # Some layers have no deterministic kernel; torch warns about them.
    pytest.mark.filterwarnings("default"),
]

SHAPE = (30, 41, 22)
OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
CENTRE = TileSettings((16, 16, 16), (8, 8, 8), 2, 255.0, OFFSETS)
GAUSSIAN = replace(CENTRE, blend="gaussian")
CASES = pytest.mark.parametrize(
    ("settings", "augmentation"),
    [(CENTRE, NO_AUGMENTATION), (GAUSSIAN, NO_AUGMENTATION), (CENTRE, Augmentation(16))],
    ids=["centre", "gaussian", "tta"],
)


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", 0)


@pytest.fixture
def raw() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)


def predicted(predictor: Predictor, raw: np.ndarray, roi: Roi) -> np.ndarray:
    return predictor.predict(lambda at: raw[slices(at)], raw.shape, roi)


def require_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Few values differ by more than the rounding of bfloat16."""
    assert expected.std() > 1
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert (difference > 2).mean() < 0.01
    assert difference.max() <= 4


@CASES
def test_a_gpu_predicts_what_a_cpu_predicts(
    tiny_model: str, raw: np.ndarray, device: torch.device, settings: TileSettings, augmentation: Augmentation
) -> None:
    network = open_bundle(tiny_model).network()
    found, expected = (
        predicted(Predictor(network, settings, each, augmentation), raw, whole(SHAPE))
        for each in (device, torch.device("cpu"))
    )
    require_close(found, expected)


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [("superhuman", replace(CENTRE, output=(4, 16, 16), context=(2, 8, 8))),
     ("mala", TileSettings((8, 8, 8), (6, 10, 10), 1, 255.0, OFFSETS))],
)  # fmt: skip
def test_padded_channels_do_not_change_a_network(
    raw: np.ndarray, device: torch.device, architecture: str, settings: TileSettings
) -> None:
    torch.manual_seed(0)
    network = build_network(architecture, {"widths": [5, 6]}).eval()
    network.head.weight.data.mul_(0.1)  # type: ignore[union-attr,operator]  # small logits, as of a trained network
    found, expected = (
        predicted(Predictor(network, settings, each), raw, whole(SHAPE)) for each in (device, torch.device("cpu"))
    )
    require_close(found, expected)


@CASES
def test_repeated_predictions_have_the_same_bytes(
    tiny_model: str, raw: np.ndarray, device: torch.device, settings: TileSettings, augmentation: Augmentation
) -> None:
    network = open_bundle(tiny_model).network()
    predictors = [Predictor(network, settings, device, augmentation) for _ in range(2)]
    first, second, other = (predicted(each, raw, whole(SHAPE)) for each in (*predictors, predictors[0]))
    assert np.array_equal(first, second)
    assert np.array_equal(first, other)


@CASES
def test_blocks_have_the_bytes_of_the_whole(
    tiny_model: str, raw: np.ndarray, device: torch.device, settings: TileSettings, augmentation: Augmentation
) -> None:
    predictor = Predictor(open_bundle(tiny_model).network(), settings, device, augmentation)
    complete = predicted(predictor, raw, whole(SHAPE))
    joined = np.zeros_like(complete)
    for block in whole_lattice(SHAPE, (16, 16, 16)).blocks():
        joined[(slice(None), *slices(block.write_roi))] = predicted(predictor, raw, block.write_roi)
    assert np.array_equal(joined, complete)
    odd = Roi((3, 5, 7), (20, 30, 9))
    assert np.array_equal(predicted(predictor, raw, odd), complete[(slice(None), *slices(odd))])


def test_regions_that_are_read_ahead_have_the_same_bytes(
    tiny_model: str, raw: np.ndarray, device: torch.device
) -> None:
    """As in a worker: the next region is read and uploaded before the last one is computed."""
    predictor = Predictor(open_bundle(tiny_model).network(), CENTRE, device)
    regions = [block.write_roi for block in whole_lattice(SHAPE, (16, 16, 16)).blocks()]
    finishes = [predictor.begin(lambda at: raw[slices(at)], SHAPE, roi) for roi in regions]
    for roi, finish in zip(regions, finishes, strict=True):
        assert np.array_equal(finish(), predicted(predictor, raw, roi))


@pytest.fixture
def busy_device(device: torch.device) -> Iterator[None]:
    """Another thread multiplies matrices on the default stream."""
    over = threading.Event()

    def compute() -> None:
        matrix = torch.rand((2048, 2048), device=device)
        while not over.is_set():
            matrix = torch.softmax(matrix @ matrix, 1)
            torch.cuda.default_stream(device).synchronize()

    thread = threading.Thread(target=compute)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.usefixtures("busy_device")
def test_arrays_return_unchanged_while_another_thread_computes(device: torch.device) -> None:
    transfers, random = Transfers(device), np.random.default_rng(0)
    for dtype in (np.uint8, np.float32):
        arrays = [random.integers(0, 100, (3, 40, 50, 60 + n)).astype(dtype) for n in range(20)]
        arrived = [transfers.upload(array) for array in arrays]
        doubled = [upload() * 2 for upload in arrived]
        returned = [transfers.download(tensor) for tensor in doubled]
        del doubled  # memory that is freed here must not be reused before it is copied
        for array, download in zip(arrays, returned, strict=True):
            assert np.array_equal(download(), array * 2)


@pytest.mark.usefixtures("busy_device")
def test_an_array_that_is_not_contiguous_is_uploaded_as_it_reads(device: torch.device) -> None:
    array = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6).transpose(2, 0, 1)[::2]
    transfers = Transfers(device)
    assert np.array_equal(transfers.download(transfers.upload(array)())(), array)


class GroupOfOne(ProcessGroup):
    """One process that takes the code of several: this machine may have only one GPU."""

    _several = ProcessGroup(0, 2)

    def parallel(self, network: nn.Module, device: torch.device) -> nn.Module:
        return self._several.parallel(network, device)

    def with_shared_statistics(self, network: nn.Module, device: torch.device) -> nn.Module:
        return self._several.with_shared_statistics(network, device)

    def any_of(self, flag: bool) -> bool:
        return self._several.any_of(flag)

    def mean_of(self, tensor: torch.Tensor) -> torch.Tensor:
        return 2 * self._several.mean_of(tensor)  # exact: the sum over one process was halved


@pytest.fixture
def nccl(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> Iterator[None]:
    """A process group of one process, as torchrun starts it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("LOCAL_RANK", "0")
    torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def stepped(group: ProcessGroup, folder: Path, device: torch.device) -> tuple[Trainer, list[float]]:
    """Return a trainer after three steps, and its losses."""
    settings = TrainingSettings.model_validate(
        {
            "name": "small",
            "data": {},
            "network": {"architecture": "superhuman", "parameters": {"widths": [4, 6]}},
            "optimiser": {"steps": 10, "batch": 2, "patch_voxels": [4, 16, 16], "epsilon": 0.01,
                          "precision": "float32"},
        }
    )  # fmt: skip
    trainer, random = Trainer(settings, folder, device, group), np.random.default_rng(0)
    losses = []
    for _ in range(3):
        batch = {
            "raw": torch.from_numpy(random.random((2, 1, 4, 16, 16), np.float32)),
            "targets": torch.from_numpy((random.random((2, 3, 4, 16, 16)) > 0.5).astype(np.float32)),
            "mask": torch.ones((2, 3, 4, 16, 16)),
        }
        losses.append(trainer.update(batch)["total"])
    return trainer, losses


@pytest.mark.usefixtures("nccl")
def test_parallel_training_over_nccl_gives_the_weights_of_one_process(tmp_path: Path, device: torch.device) -> None:
    single, expected = stepped(ProcessGroup(), tmp_path, device)
    group = GroupOfOne()
    parallel, found = stepped(group, tmp_path, device)
    assert isinstance(parallel._parallel, nn.parallel.DistributedDataParallel)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in parallel.network.modules())
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in single.network.modules())
    assert expected[0] != expected[-1]
    assert np.allclose(found, expected, rtol=1e-4)
    for name, weights in single.network.state_dict().items():
        assert torch.allclose(parallel.network.state_dict()[name], weights, rtol=1e-3, atol=1e-4), name
    assert group.any_of(True)
    assert not group.any_of(False)
    trained = parallel.average.network.state_dict()
    assert all(torch.isfinite(values).all() for values in trained.values() if values.is_floating_point())
