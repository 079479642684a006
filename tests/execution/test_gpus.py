"""The workers of a machine use its GPUs in turn. A new worker takes the place of one that ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from neuroseg.affinities.device import gpu_kind, own_gpus, require_kind
from neuroseg.errors import NeurosegError
from neuroseg.execution.local import LocalWorkers
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.runs.plan import read_plan
from neuroseg.storage.first import first_recorded


def properties(name: str, major: int = 9, minor: int = 0, multiprocessors: int = 132) -> SimpleNamespace:
    """The properties of a GPU, as torch returns them."""
    return SimpleNamespace(name=name, major=major, minor=minor, multi_processor_count=multiprocessors)


def seen_gpus() -> dict[int, str]:
    """The GPU that each worker process sees, by process id."""
    processes = psutil.Process().children()
    found = {process.pid: process.environ() for process in processes}
    return {pid: given["CUDA_VISIBLE_DEVICES"] for pid, given in found.items() if "CUDA_VISIBLE_DEVICES" in given}


def test_workers_take_gpus_in_turn_and_places_that_fell_free(tmp_path: Path) -> None:
    workers = LocalWorkers(tmp_path, tmp_path / "logs", "predict", ["3", "GPU-7"])
    try:
        workers.scale(3, 0)
        first = seen_gpus()
        assert sorted(first.values()) == ["3", "3", "GPU-7"]
        channels = workers.new_channels()
        workers.kill(channels[1], None)
        victim = next(pid for pid, gpu in first.items() if gpu == "GPU-7")
        psutil.wait_procs([psutil.Process(victim)], timeout=10)
        workers.scale(3, 1)
        assert sorted(seen_gpus().values()) == ["3", "3", "GPU-7"], "the place that fell free is taken again"
        for channel in (*channels, *workers.new_channels()):
            channel.close()
    finally:
        workers.stop(force=True)


def test_the_gpus_are_those_that_this_process_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    kinds = [properties("NVIDIA H100 80GB HBM3"), properties("NVIDIA H100"), properties("Tesla T4", 7, 5)]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: kinds[device.index])
    assert own_gpus("cuda") == ["0", "1"], "the third is of another kind"
    assert own_gpus("cuda:1") == own_gpus("cpu") == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5f")
    assert own_gpus("cuda") == ["4", "GPU-5f"]


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
    assert found == {"gpu": kind, "compute_capability": "8.6", "multiprocessors": "108"}


def test_a_worker_with_another_kind_of_gpu_than_the_first_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record, kinds = tmp_path / "affinities" / "gpu.yaml", []
    for one in (properties("NVIDIA A100-SXM4-40GB", 8, 0, 108), properties("NVIDIA H100 80GB HBM3")):
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, one=one: one)
        kinds.append(gpu_kind(torch.device("cuda")))
    first, other = kinds
    for _ in range(2):
        require_kind(first, first_recorded(record, first), record)
    with pytest.raises(NeurosegError, match=r"H100.*9\.0.*expected gpu NVIDIA A100-SXM4.*8\.0.*gpu\.yaml"):
        require_kind(other, first_recorded(record, other), record)
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
    monkeypatch.setattr("neuroseg.affinities.device.choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr("neuroseg.affinities.device.require_device", lambda device, promised: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties("NVIDIA L4"))
    with pytest.raises(NeurosegError, match=r"NVIDIA L4.* expected gpu Tesla T4"), stage.open():
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
