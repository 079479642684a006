"""A CPU whose gradients in bfloat16 are wrong, or end the process, is found out before a training begins with them."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from neuroseg.errors import InputError
from neuroseg.networks.architectures import build_network
from neuroseg.training import gradients
from neuroseg.training.gradients import gradient_errors, require_right_gradients
from neuroseg.training.pretrain import pretrain
from neuroseg.training.train import train

CPU = torch.device("cpu")
ASKED: dict[str, Any] = {"batch": 1, "patch_voxels": (8, 32, 32), "device": CPU, "precision": "bfloat16"}
SMALL = {"widths": [4, 8], "outputs": 3}


@pytest.mark.parametrize("architecture", ["light", "superhuman"])
def test_right_gradients_are_as_exact_as_the_precision(architecture: str) -> None:
    torch.manual_seed(1)
    network = build_network(architecture, {**SMALL, "widths": [4, 8, 8]})
    limits: list[int] = []
    errors = gradient_errors(network, torch.rand(1, 1, 8, 16, 16), limit=limits.append)
    layers = [n for n, layer in network.named_modules() if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d)]
    assert list(errors) == layers
    assert max(errors.values()) < 0.02
    assert limits[0] > 30
    assert limits[1:] == [0]  # the way back is no longer timed


@pytest.mark.parametrize("wrong", [1.3, math.nan])
def test_the_layer_whose_gradients_are_wrong_is_named(wrong: float) -> None:
    torch.manual_seed(1)
    network = build_network("light", SMALL)
    layer = network.get_submodule("ups.0")

    def damage(weight: torch.Tensor) -> None:
        assert weight.grad is not None
        weight.grad *= wrong

    layer.weight.register_post_accumulate_grad_hook(damage)  # type: ignore[operator,union-attr]
    errors = gradient_errors(network, torch.rand(1, 1, 8, 16, 16))
    assert math.isnan(errors["ups.0"]) if math.isnan(wrong) else errors["ups.0"] == pytest.approx(0.3, abs=0.02)
    assert max(error for name, error in errors.items() if name != "ups.0") < 0.02


def test_the_layer_whose_values_are_wrong_is_named() -> None:
    class Wrong(nn.Conv3d):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return super().forward(features) * (1.3 if torch.is_autocast_enabled("cpu") else 1.0)

    torch.manual_seed(1)
    network = build_network("light", SMALL)
    network.ups[0] = Wrong(8, 4, 1)  # type: ignore[operator,index]
    errors = gradient_errors(network, torch.rand(1, 1, 8, 16, 16))
    assert errors["ups.0"] == pytest.approx(0.3, abs=0.02)
    assert max(error for name, error in errors.items() if name != "ups.0") < 0.02


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"end the process \(SIGSEGV\), on this CPU"),
        ("import signal, time; signal.alarm(1); time.sleep(60)", "never end, on this CPU"),
        (
            'print(\'{"stem": 0.001, "ups.0": 0.31}\')',
            "are wrong: in layer ups.0 by 31% of the largest",
        ),
        (
            'print(\'{"stem": 0.31, "a": NaN, "b": 0.01}\')',
            "are wrong: in layer a by nan% of the largest",
        ),
    ],
)
def test_faults_are_refused_with_the_way_out(program: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "_COMMAND", [sys.executable, "-c", program])
    with pytest.raises(InputError, match=told) as refused:
        require_right_gradients("light", SMALL, **ASKED)
    assert "patches of 8 x 32 x 32 voxels" in str(refused.value)
    assert "optimiser.precision: float32" in str(refused.value)


@pytest.mark.parametrize(
    "change", [{"precision": "float32"}, {"device": torch.device("cuda")}, {"patch_voxels": (72, 31, 31)}]
)
def test_nothing_is_tried_where_nothing_can_be_wrong(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "_COMMAND", ["/nowhere"])
    require_right_gradients("light", SMALL, **{**ASKED, **change})


def test_a_trial_that_fails_by_itself_is_told_and_forbids_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gradients, "_COMMAND", [sys.executable, "-c", "raise SystemExit('no memory')"])
    with caplog.at_level(logging.WARNING):
        require_right_gradients("light", SMALL, **ASKED)
    assert "could not try" in caplog.text
    assert "no memory" in caplog.text


def test_the_trial_is_that_of_the_training(
    configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is tried is one step of this network, batch and patch; refused, no folder is begun."""
    content = yaml.safe_load(configuration.read_text())
    content["optimiser"] |= {"patch_voxels": [8, 32, 32], "batch": 2}
    changed = configuration.with_name("wide.yaml")
    changed.write_text(yaml.safe_dump(content))
    raw = {"raw": "raw.zarr"}
    before = {
        **{key: content[key] for key in ("name", "loader_workers", "network")},
        "data": {"folders": content["data"]["folders"], "training": [raw], "validation": raw},
        "optimiser": {"steps": 1, "batch": 3, "patch_voxels": [8, 32, 40]},
    }
    pre = configuration.with_name("pre.yaml")
    pre.write_text(yaml.safe_dump(before))
    kept = tmp_path / "asked.json"
    program = f"import sys, pathlib; pathlib.Path({str(kept)!r}).write_text(sys.stdin.read()); print('{{\"a\": 1}}')"
    monkeypatch.setattr(gradients, "_COMMAND", [sys.executable, "-c", program])
    for command, path, batch, patch, outputs in (
        (train, changed, 2, [8, 32, 32], 14), (pretrain, pre, 3, [8, 32, 40], 1),
    ):  # fmt: skip
        with pytest.raises(InputError, match="layer a by 100%"):
            command(path, tmp_path / "folder", progress=False)  # type: ignore[operator]
        assert not (tmp_path / "folder").exists()
        asked = yaml.safe_load(kept.read_text())
        assert (asked["batch"], asked["patch_voxels"], asked["parameters"]["outputs"]) == (batch, patch, outputs)
        assert asked["threads"] == torch.get_num_threads()


@pytest.mark.skipif(
    not torch.__version__.startswith("2.13.") or "amx_bf16" not in Path("/proc/cpuinfo").read_text(),
    reason="the fault is known of torch 2.13 on CPUs with AMX",
)
def test_the_fault_of_this_very_library_is_found() -> None:
    whole = {"widths": [16, 32, 64, 128], "outputs": 3}
    with pytest.raises(InputError, match="gradients in bfloat16"):
        require_right_gradients("light", whole, **{**ASKED, "patch_voxels": (8, 160, 160)})


def test_a_packaged_shape_is_right() -> None:
    whole = {"widths": [16, 32, 64, 128], "outputs": 3}
    require_right_gradients("light", whole, **{**ASKED, "patch_voxels": (24, 80, 80)})
