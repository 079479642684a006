"""Two processes with half the batch each equal one process with the whole batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from neuroseg.training.learning.processes import ProcessGroup, Share
from neuroseg.training.learning.records import load_checkpoint
from neuroseg.training.train import train


def grouped(configuration: Path, name: str, batch: int, *, consistent: bool = False, norm: str = "group") -> Path:
    """A training with group normalisation, in which the number of counted voxels differs between samples."""
    content = yaml.safe_load(configuration.read_text())
    if consistent:
        content["data"]["unlabelled"] = [{"raw": "raw.zarr"}]
        content["consistency"] = {"teacher": "ema", "perturbations": {"names": ["noise", "elastic", "flip"]}}
    content["network"] = {"parameters": {"widths": [4, 8], "norm": norm}}
    content["data"]["training"][0]["region"] = "4:10,:,:"  # patches contain none to all of it
    content["data"]["training"][0]["surround_voxels"] = [22, 0, 0]
    # With a small epsilon, Adam turns the sign of a tiny gradient into a full step, so the order of sums would matter.
    content["optimiser"] |= {"batch": batch, "steps": 6, "epsilon": 0.01, "precision": "float32"}
    content["validation"]["every_steps"] = 6
    path = configuration.with_name(f"{name}.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def losses(folder: Path) -> dict[str, float]:
    """Return every part of the loss at the last step."""
    rows = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    return {name: float(value) for _, name, value in rows if name.startswith("loss/")}


def test_each_process_has_every_other_batch() -> None:
    shares = [Share(list(range(12)), 2, ProcessGroup(rank, 3)) for rank in range(3)]
    assert [[share[n] for n in range(len(share))] for share in shares] == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    with pytest.raises(IndexError):
        shares[0][4]
    whole = list(range(5))
    assert ProcessGroup().share(whole, 2) is whole
    assert ProcessGroup().any_of(True)
    assert not ProcessGroup().any_of(False)


def trained_by_two(path: Path, folder: Path) -> list[str]:
    """Train in two processes and return their error output."""
    command = ["train", str(path), "-o", str(folder)]
    script = f"from neuroseg.cli.main import exit_code; raise SystemExit(exit_code({command!r}))"
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script], env={**os.environ, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return said


@pytest.mark.parametrize("consistent", [pytest.param(False, marks=pytest.mark.long), True])
def test_two_processes_give_the_loss_and_the_weights_of_one(
    consistent: bool, configuration: Path, tmp_path: Path
) -> None:
    name = f"{consistent}"
    whole = grouped(configuration, f"one-{name}", 4, consistent=consistent)
    train(whole, tmp_path / "one", device="cpu", progress=False)
    said = trained_by_two(grouped(configuration, f"two-{name}", 2, consistent=consistent), tmp_path / "two")
    assert "best bundle" in said[0]
    assert "best bundle" not in said[1]
    one, two = (load_checkpoint(tmp_path / folder / "checkpoint.pt") for folder in ("one", "two"))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    for name, tensor in one["network"].items():
        assert torch.allclose(tensor, two["network"][name], atol=1e-5), name


@pytest.mark.long
def test_two_processes_normalise_labelled_and_perturbed_crops_separately(configuration: Path, tmp_path: Path) -> None:
    trained_by_two(grouped(configuration, "apart", 2, consistent=True, norm="batch"), tmp_path / "apart")
    state = load_checkpoint(tmp_path / "apart" / "checkpoint.pt")
    assert state["step"] == 6
    remembered = {int(tensor) for name, tensor in state["network"].items() if name.endswith("num_batches_tracked")}
    assert remembered == {6}, "the labelled crops of a step, not the perturbed ones"


def test_batch_normalisation_is_shared_only_between_gpus() -> None:
    def layer(processes: int, device: str) -> nn.Module:
        network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))
        found: nn.Module = ProcessGroup(0, processes).with_shared_statistics(network, torch.device(device))
        return found.get_submodule("1")

    assert isinstance(layer(2, "cuda"), nn.SyncBatchNorm)
    assert not isinstance(layer(2, "cpu"), nn.SyncBatchNorm), "gloo has none"
    assert not isinstance(layer(1, "cuda"), nn.SyncBatchNorm)
