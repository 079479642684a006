"""GPUs: a head lists them without initialising CUDA, workers take them in turn, and other kinds are refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from neuroseg.affinities import gpus
from neuroseg.affinities.device import gpu_kind, precision_of, require_device
from neuroseg.affinities.gpus import Gpu, as_json, computing_device, list_in_another_process
from neuroseg.errors import BlocksFailedError, NeurosegError
from neuroseg.execution.block import device_in_use
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.runs.plan import read_plan
from neuroseg.runs.resolve import plan_of_run
from neuroseg.storage.first import first_recorded


def properties(name: str, major: int = 9, minor: int = 0, multiprocessors: int = 132) -> SimpleNamespace:
    """The properties of a GPU, as torch returns them."""
    return SimpleNamespace(name=name, major=major, minor=minor, multi_processor_count=multiprocessors)


def gpu(number: int, name: str = "NVIDIA L4", precision: str = "bfloat16") -> Gpu:
    return Gpu(number, f"uuid-{number}", {"gpu": name, "cudnn": "90100"}, precision)


@pytest.fixture
def lazy_init(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Two GPUs of a kind and a third of another kind, that another process lists. Returns attempts to use one here."""
    attempts: list[str] = []

    def refuse() -> None:
        attempts.append("CUDA")
        raise AssertionError("this process must not initialise CUDA")

    answer = as_json([gpu(0), gpu(1), gpu(2, "Tesla T4", "float16")])
    gpus._listed.cache_clear()
    monkeypatch.setattr(torch.cuda, "_lazy_init", refuse)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(gpus, "list_in_another_process", lambda: answer)
    yield attempts
    gpus._listed.cache_clear()


def test_a_head_plans_with_gpus_that_another_process_lists(
    lazy_init: list[str], raw_volume: str, tiny_model: str, tmp_path: Path
) -> None:
    given = {"volume": raw_volume, "model": tiny_model, "output": str(tmp_path / "w")}
    _, plan, _ = plan_of_run(Options.model_validate(given))
    assert (plan.device, plan.device_identity["precision"], plan.prediction_workers) == ("cuda", "bfloat16", 2)
    assert "gpu" not in plan.device_identity, "on a cluster, the head does not know it"
    _, plan, _ = plan_of_run(Options.model_validate({**given, "device": "cuda:2"}))
    assert (plan.device, plan.device_identity["precision"], plan.prediction_workers) == ("cuda:2", "float16", 1)
    _, plan, _ = plan_of_run(Options.model_validate({**given, "workers": 5}))
    assert plan.prediction_workers == 5, "several workers share a GPU"
    assert not lazy_init


@pytest.mark.parametrize("blocks", ["32", "256"])
def test_the_head_of_a_run_never_initialises_cuda(
    blocks: str, lazy_init: list[str], raw_volume: str, tiny_model: str, tmp_path: Path
) -> None:
    """The workers, real processes, find no GPU here. So their blocks fail, also the only one of a small volume."""
    given = {"volume": raw_volume, "model": tiny_model, "output": str(tmp_path / "w"), "blocks": blocks, "workers": 1}
    with pytest.raises(BlocksFailedError, match="this machine has 0 CUDA devices"):
        pipeline.run(Options.model_validate(given))
    assert not lazy_init


def test_another_process_lists_the_gpus() -> None:
    found = json.loads(list_in_another_process())
    assert len(found) == torch.cuda.device_count()


def test_a_list_that_cannot_be_made_names_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(NeurosegError, match=r"cannot list the GPUs.*exit status 1(.|\n)*nvidia-smi"):
        list_in_another_process()


def test_a_process_computes_on_a_gpu_that_no_other_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(gpus, "own_gpus", lambda: [gpu(0), gpu(1), gpu(2, "Tesla T4")])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with computing_device("cuda") as first, computing_device("cuda") as second, computing_device("cuda") as third:
        assert [first.index, second.index, third.index] == [0, 1, 0], "the Tesla is of another kind"
    with computing_device("cuda:0") as first, computing_device("cuda") as second:
        assert [first.index, second.index] == [0, 1]
    with computing_device("cpu") as device:
        assert device == torch.device("cpu")


@pytest.mark.parametrize(
    ("visible", "reserved", "device"),
    [(None, (0, 7), "cuda:1"), ("4,GPU-5f", (0, 7), "cuda:GPU-5f"), ("4,GPU-5f", (0, 0), "cpu")],
)
def test_the_record_of_a_block_names_its_gpu(
    visible: str | None, reserved: tuple[int, int], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device_in_use() == "cpu"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda number: reserved[number])
    assert device_in_use() == device


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100"),
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4"),
        ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe"),
        ("NVIDIA H200 MIG 1g.18gb", "NVIDIA H200 MIG 1g.18gb"),
    ],
)
def test_a_kind_is_a_name_without_memory(monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties(name, 8, 6, 108))
    found = gpu_kind(torch.device("cuda", 0))
    cudnn = str(torch.backends.cudnn.version())
    assert found == {"gpu": kind, "compute_capability": "8.6", "multiprocessors": "108", "cudnn": cudnn}


@pytest.mark.parametrize(("major", "precision"), [(7, torch.float16), (8, torch.bfloat16), (9, torch.bfloat16)])
def test_gpus_since_ampere_multiply_bfloat16(monkeypatch: pytest.MonkeyPatch, major: int, precision: object) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties("NVIDIA", major))
    assert precision_of(torch.device("cuda", 1)) == precision


def test_a_worker_with_another_kind_of_gpu_than_the_first_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record, kinds = tmp_path / "affinities" / "gpu.yaml", []
    for one in (properties("NVIDIA A100-SXM4-40GB", 8, 0, 108), properties("NVIDIA H100 80GB HBM3")):
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, one=one: one)
        kinds.append(gpu_kind(torch.device("cuda")))
    first, other = kinds
    for _ in range(2):
        require_device(first, first_recorded(record, first), record)
    with pytest.raises(
        NeurosegError, match=r"gpu NVIDIA H100, expected NVIDIA A100-SXM4; .* 9\.0, expected 8\.0.*gpu\.yaml"
    ):
        require_device(other, first_recorded(record, other), record)
    assert [path.name for path in record.parent.iterdir()] == ["gpu.yaml"]
    record.write_text("")
    with pytest.raises(NeurosegError, match="is damaged"):
        first_recorded(record, first)


def test_a_stage_that_another_kind_of_gpu_began_is_not_opened(
    raw_volume: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"volume": raw_volume, "model": tiny_model, "output": str(tmp_path / "w"), "executor": "serial"}
    workspace, _ = pipeline.predict(Options.model_validate({**given, "blocks": "48"}))
    record = workspace.path / "ledger" / "affinities" / "gpu.yaml"
    assert not record.exists(), "CPUs are distinguished by their capability"
    stage = read_plan(workspace).stage(workspace, "affinities")
    first_recorded(record, {"gpu": "Tesla T4"})
    monkeypatch.setattr(gpus, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(gpus, "own_gpus", lambda: [gpu(0)])
    monkeypatch.setattr("neuroseg.affinities.device.device_identity", lambda device: stage.device_identity)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties("NVIDIA L4"))
    with pytest.raises(NeurosegError, match=r"NVIDIA L4, expected Tesla T4"), stage.open():
        pass


def test_a_child_whose_parent_is_gone_ends() -> None:
    """As in a fork whose parent died before the fork could ask the kernel for a signal."""
    script = "from neuroseg.execution.parent import die_with_parent; import os; {}; print('lives')"
    lives, dies = (
        subprocess.run([sys.executable, "-c", script.format(f"die_with_parent({parent})")], capture_output=True)
        for parent in ("os.getppid()", "os.getppid() + 1")
    )
    assert (lives.returncode, lives.stdout) == (0, b"lives\n")
    assert (dies.returncode, dies.stdout) == (-9, b"")
