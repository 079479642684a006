"""The device that a head plans: on a cluster, the one that the jobs of `affinities` request."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neuroseg.affinities.device import device_identity
from neuroseg.affinities.planned_device import local_device, remote_device
from neuroseg.errors import InputError
from neuroseg.execution.cluster.site import Cluster, Resources, Site
from neuroseg.runs.options import Options
from neuroseg.runs.resolve import plan_of_run

GPU = {"device_type": "cuda", "cpu_capability": "-", "precision": "bfloat16", "torch": torch.__version__}
WITH_GPU = Site(stages={"affinities": Resources(gpus=2)})


@pytest.mark.parametrize(("name", "gpus", "device"), [
    ("auto", 0, "cpu"), ("cpu", 0, "cpu"), ("auto", 1, "cuda"), ("cuda", 2, "cuda"), ("cuda:1", 2, "cuda:1"),
])  # fmt: skip
def test_the_device_is_the_one_that_jobs_request(name: str, gpus: int, device: str) -> None:
    identity = device_identity(torch.device("cpu")) if device == "cpu" else GPU
    assert remote_device(name, gpus) == (device, identity)


@pytest.mark.parametrize(("name", "gpus", "message"), [
    ("cuda", 0, r"the device is cuda, .* request no GPU\nhint: add .*gpus: 1.* or use --device cpu"),
    ("cuda:1", 0, "the device is cuda:1"),
    ("cpu", 1, r"the device is cpu, .* request 1 GPU\nhint: set .*gpus: 0.* or use --device cuda"),
    ("cpu", 2, "request 2 GPUs"),
    ("tpu", 1, "device 'tpu' is not supported"),
])  # fmt: skip
def test_a_device_that_jobs_do_not_request_is_refused(name: str, gpus: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        remote_device(name, gpus)


@pytest.mark.parametrize("executor", ["slurm", "dask"])
def test_the_cluster_file_decides(executor: str, raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    given = {"volume": raw_volume, "model": tiny_model, "output": str(tmp_path / "w"), "executor": executor}
    options = Options.model_validate(given)
    for site, device in ((Site(), "cpu"), (WITH_GPU, "cuda"), (Site(default=Resources(gpus=1)), "cuda")):
        assert plan_of_run(options, Cluster(site))[1].device == device
    only_edges = Site(stages={"edges": Resources(gpus=1)})
    assert plan_of_run(options, Cluster(only_edges))[1].device == "cpu"
    with pytest.raises(InputError, match="request 2 GPUs"):
        plan_of_run(options.model_copy(update={"device": "cpu"}), Cluster(WITH_GPU))


def test_the_cluster_file_of_the_variable_decides(
    raw_volume: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab.yaml").write_text("stages: {affinities: {gpus: 1}}\n")
    monkeypatch.setenv("NEUROSEG_CLUSTER", str(tmp_path / "lab.yaml"))
    given = {"volume": raw_volume, "model": tiny_model, "output": str(tmp_path / "w")}
    assert plan_of_run(Options.model_validate({**given, "executor": "slurm"}))[1].device == "cuda"
    assert plan_of_run(Options.model_validate({**given, "device": "cpu"}))[1].device == "cpu", "not on this machine"


def test_a_cpu_of_this_machine() -> None:
    assert local_device("cpu") == ("cpu", device_identity(torch.device("cpu")))
