"""A batch that does not fit in the memory of a GPU is halved once, and all workers of the run use the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neuroseg.affinities.batches import fits, largest_batch, require_fit
from neuroseg.affinities.inference import Predictor, TileSettings
from neuroseg.affinities.stage import AffinitiesStage
from neuroseg.errors import NeurosegError
from neuroseg.networks.bundle import open_bundle
from neuroseg.runs.options import Options
from neuroseg.runs.resolve import plan_of_run
from neuroseg.storage.first import first_recorded, recorded_at

SETTINGS = TileSettings((16, 16, 16), (8, 8, 8), 4, 255.0, ((-1, 0, 0), (0, -1, 0), (0, 0, -1)))
CPU = torch.device("cpu")
BLOCK = (32, 32, 32)
KIND = {"gpu": "NVIDIA L4", "compute_capability": "8.9", "multiprocessors": "58", "cudnn": "90100"}


class Cramped(Predictor):
    """A predictor on a device whose memory holds `most` windows."""

    most = 4

    def outputs(self, windows: torch.Tensor) -> torch.Tensor:
        if len(windows) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().outputs(windows)


def cramped(model: str, most: int, settings: TileSettings = SETTINGS) -> Cramped:
    made = Cramped(open_bundle(model).network(), settings, CPU)
    made.most = most
    return made


@pytest.mark.parametrize(("most", "fitting"), [(4, [1, 2, 4]), (3, [1, 2]), (1, [1]), (0, [])])
def test_a_batch_fits_if_the_device_does_not_run_out_of_memory(tiny_model: str, most: int, fitting: list[int]) -> None:
    predictor = cramped(tiny_model, most)
    assert [batch for batch in (1, 2, 4) if fits(predictor, CPU, BLOCK, batch)] == fitting
    assert predictor.settings.batch == 4, "that of the last call"


def test_other_errors_are_not_taken_for_a_lack_of_memory(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Predictor, windows: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(Predictor, "outputs", fail)
    with pytest.raises(RuntimeError, match="illegal"):
        fits(cramped(tiny_model, 4), CPU, BLOCK, 1)


@pytest.mark.parametrize(("batch", "most", "found"), [(8, 8, 8), (8, 7, 4), (9, 4, 4), (2, 1, 1)])
def test_a_batch_is_halved_once(batch: int, most: int, found: int, caplog: pytest.LogCaptureFixture) -> None:
    assert largest_batch(batch, lambda each: each <= most, lambda: "1.0 of 2.0 GiB free") == found
    said = f"a batch of {batch} does not fit in the memory of the GPU (1.0 of 2.0 GiB free); this run uses batches of"
    assert (said in caplog.text) == (found != batch)


@pytest.mark.parametrize(("batch", "most"), [(8, 3), (1, 0)])
def test_a_device_that_is_much_too_small_is_refused(batch: int, most: int) -> None:
    with pytest.raises(NeurosegError, match=r"not fit .*\(1\.0 of 2\.0 GiB free\)\nhint: .*neuroseg models tune"):
        largest_batch(batch, lambda each: each <= most, lambda: "1.0 of 2.0 GiB free")


def test_a_worker_that_cannot_use_the_batch_of_the_run_fails() -> None:
    require_fit(4, lambda batch: batch <= 4, lambda: "", "gpu.yaml")
    with pytest.raises(NeurosegError, match=r"batch of this run, 4 windows \(from gpu\.yaml\), does not fit"):
        require_fit(4, lambda batch: batch <= 2, lambda: "", "gpu.yaml")


@pytest.fixture
def stage(raw_volume: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AffinitiesStage:
    """The stage of a run on a GPU that is pretended: it computes on the CPU."""
    given = {"volume": raw_volume, "model": tiny_model, "output": str(tmp_path / "w"), "blocks": "32"}
    workspace, plan, _ = plan_of_run(Options.model_validate({**given, "device": "cpu"}))
    identity = dict(plan.device_identity)
    monkeypatch.setattr("neuroseg.affinities.device.device_identity", lambda device: identity)
    monkeypatch.setattr("neuroseg.affinities.device.gpu_kind", lambda device: KIND)
    monkeypatch.setattr("neuroseg.affinities.batches.gpu_memory", lambda device: "1.0 of 2.0 GiB free")
    monkeypatch.setattr(
        "neuroseg.affinities.batches.fits", lambda predictor, device, block, batch: fits(predictor, CPU, block, batch)
    )
    return plan.affinities_stage(workspace)


def worker_of(stage: AffinitiesStage, most: int, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """The predictor of a worker on a GPU that holds `most` windows."""
    monkeypatch.setattr(
        "neuroseg.affinities.predictors.open_predictor",
        lambda bundle, device, blend, augmentation: cramped(stage.model, most),
    )
    return stage._predictor(torch.device("cuda"))


def record_of(stage: AffinitiesStage) -> Path:
    return stage.workspace.path / "ledger" / "affinities" / "gpu.yaml"


def test_workers_and_resumes_use_the_recorded_batch(stage: AffinitiesStage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_of(stage, 2, monkeypatch).settings.batch == 2
    assert recorded_at(record_of(stage)) == {**KIND, "batch": "2"}
    assert worker_of(stage, 100, monkeypatch).settings.batch == 2, "also where the batch of the card fits"
    with pytest.raises(NeurosegError, match=r"batch of this run, 2 windows \(from .*gpu\.yaml\), does not fit"):
        worker_of(stage, 1, monkeypatch)


def test_of_workers_that_start_together_the_first_to_record_decides(
    stage: AffinitiesStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slower(batch: int, fits_batch: object, memory: object) -> int:
        first_recorded(record_of(stage), {**KIND, "batch": "2"})
        return batch

    monkeypatch.setattr("neuroseg.affinities.batches.largest_batch", slower)
    assert worker_of(stage, 4, monkeypatch).settings.batch == 2


@pytest.mark.parametrize("key", sorted(KIND))
def test_a_gpu_that_differs_in_one_property_is_refused(
    stage: AffinitiesStage, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_recorded(record_of(stage), {**KIND, key: "7.0", "batch": "4"})
    with pytest.raises(NeurosegError, match=rf"{key} {KIND[key]}, expected 7\.0 \(from .*gpu\.yaml\)\nhint: use one"):
        worker_of(stage, 4, monkeypatch)


def test_a_cpu_is_not_tried(stage: AffinitiesStage) -> None:
    assert stage._predictor(CPU).settings.batch == 1, "that of the card"
    assert not record_of(stage).exists()
