"""A CPU that computes wrong gradients in bfloat16, or crashes, is detected before a training."""

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
from neuroseg.training.adapt import Request, adapt
from neuroseg.training.learning import gradients
from neuroseg.training.learning.gradients import _LARGEST_ERROR, require_correct_gradients, step_errors
from neuroseg.training.pretrain import dry_run_pretraining, pretrain
from neuroseg.training.train import dry_run_training, train

CPU = torch.device("cpu")
ASKED: dict[str, Any] = {"batch": 1, "patch_voxels": (8, 32, 32), "device": CPU, "precision": "bfloat16"}
SMALL = {"widths": [4, 8], "outputs": 3}


@pytest.mark.parametrize("architecture", ["light", "superhuman"])
def test_a_correct_step_has_only_rounding_errors(architecture: str) -> None:
    torch.manual_seed(1)
    network = build_network(architecture, {**SMALL, "widths": [4, 8, 8]})
    limits: list[int] = []
    errors = step_errors(network, torch.rand(1, 1, 8, 16, 16), limit=limits.append)
    layers = [n for n, layer in network.named_modules() if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d)]
    assert list(errors) == [f"{what} of {name}" for name in layers for what in ("values", "gradients")]
    assert max(errors.values()) < _LARGEST_ERROR
    assert len(limits) == 3
    assert 30 < limits[1] < limits[0] == limits[2]


class Wrong(torch.autograd.Function):
    """Return features unchanged, except for the named part of the values or of the gradients."""

    @staticmethod
    def forward(context: Any, features: torch.Tensor, values: float, gradients: float) -> torch.Tensor:
        context.gradients = gradients
        return features + values * features.abs().max()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # type: ignore[override]
        return gradient + context.gradients * gradient.abs().max(), None, None


@pytest.mark.parametrize(
    ("where", "values", "gradients", "named"),
    [("after", 0.3, 0.0, "values"), ("before", 0.0, 0.3, "gradients"), ("before", 0.0, math.nan, "gradients")],
)
def test_a_wrong_layer_is_named(where: str, values: float, gradients: float, named: str) -> None:
    """In `before`, only the gradient of the features is wrong, not that of the weights."""

    class Layer(nn.Conv3d):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            if not torch.is_autocast_enabled("cpu"):
                return super().forward(features)
            if where == "before":
                return super().forward(Wrong.apply(features, values, gradients))  # type: ignore[no-untyped-call]
            found: torch.Tensor = Wrong.apply(super().forward(features), values, gradients)  # type: ignore[no-untyped-call]
            return found

    torch.manual_seed(1)
    network = build_network("light", SMALL)
    network.ups[0] = Layer(8, 4, 1)  # type: ignore[operator,index]
    errors = step_errors(network, torch.rand(1, 1, 8, 16, 16))
    found = errors.pop(f"{named} of ups.0")
    assert math.isnan(found) if math.isnan(gradients) else found == pytest.approx(0.3, abs=0.02)
    if not math.isnan(gradients):
        assert max(errors.values()) < _LARGEST_ERROR


@pytest.mark.parametrize("parameter", ["weight", "bias"])
def test_wrong_gradients_of_weights_and_biases_are_found(parameter: str) -> None:
    torch.manual_seed(1)
    network = build_network("light", SMALL)

    def damage(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        parameter.grad *= 1.3

    network.get_parameter(f"ups.0.{parameter}").register_post_accumulate_grad_hook(damage)
    errors = step_errors(network, torch.rand(1, 1, 8, 16, 16))
    assert errors.pop("gradients of ups.0") == pytest.approx(0.3, abs=0.02)
    assert max(errors.values()) < _LARGEST_ERROR


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"a step crashes \(SIGSEGV\)"),
        ("import signal, time; signal.alarm(1); time.sleep(60)", "a step hangs"),
        (
            "print('onednn_verbose'); print('{\"values of a\": 0.001, \"gradients of ups.0\": 0.31}')",
            "gradients of ups.0 are off by 31% of the largest",
        ),
        ('print(\'{"values of a": 0.31, "values of b": NaN, "c": 0.01}\')', "values of b are NaN"),
    ],
)
def test_faults_are_refused_with_a_hint(program: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "_COMMAND", [sys.executable, "-c", program])
    with pytest.raises(InputError, match=told) as refused:
        require_correct_gradients("light", SMALL, **ASKED)
    assert "patches of 8 x 32 x 32 voxels" in str(refused.value)
    assert "hint: train in float32 (optimiser.precision: float32" in str(refused.value)


@pytest.mark.parametrize(
    "change", [{"precision": "float32"}, {"device": torch.device("cuda")}, {"patch_voxels": (72, 31, 31)}]
)
def test_nothing_is_tested_if_nothing_can_be_wrong(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "_COMMAND", ["/nowhere"])
    require_correct_gradients("light", SMALL, **{**ASKED, **change})


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("raise SystemExit('no memory')", "no memory"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"exit -9"),
        ("print('no errors')", "no error output"),
    ],
)
def test_a_test_that_fails_for_another_reason_is_only_logged(
    program: str, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gradients, "_COMMAND", [sys.executable, "-c", program])
    with caplog.at_level(logging.WARNING):
        require_correct_gradients("light", SMALL, **ASKED)
    assert "cannot test bfloat16" in caplog.text
    assert told in caplog.text


def test_the_test_uses_the_settings_of_the_training(
    configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test runs one step with this network, batch and patch. If it fails, no folder is created."""
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
    keep = f"import sys, pathlib; pathlib.Path({str(kept)!r}).write_text(sys.stdin.read()); "
    program = keep + "print('{\"values of a\": 1}')"
    monkeypatch.setattr(gradients, "_COMMAND", [sys.executable, "-c", program])
    for command, path, batch, patch, outputs in (
        (train, changed, 2, [8, 32, 32], 14), (pretrain, pre, 3, [8, 32, 40], 1),
    ):  # fmt: skip
        with pytest.raises(InputError, match="values of a are off by 100%"):
            command(path, tmp_path / "folder", progress=False)  # type: ignore[operator]
        assert not (tmp_path / "folder").exists()
        asked = yaml.safe_load(kept.read_text())
        assert (asked["batch"], asked["patch_voxels"], asked["parameters"]["outputs"]) == (batch, patch, outputs)
        assert asked["threads"] == torch.get_num_threads()


def test_every_training_command_runs_the_test(
    configuration: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def refuse(architecture: str, parameters: dict[str, Any], **more: Any) -> None:
        asked.append({"parameters": parameters, **more})
        raise InputError("tried")

    for module in ("train", "pretrain"):
        monkeypatch.setattr(f"neuroseg.training.{module}.require_correct_gradients", refuse)
    content = yaml.safe_load(configuration.read_text())
    raw = {"raw": "raw.zarr"}
    folders = {"folders": content["data"]["folders"]}
    pre = configuration.with_name("pre.yaml")
    part = {key: content[key] for key in ("name", "network")}
    patch = {"steps": 1, "batch": 1, "patch_voxels": [8, 16, 16]}
    pre.write_text(
        yaml.safe_dump({**part, "data": {**folders, "training": [raw], "validation": raw}, "optimiser": patch})
    )
    published = configuration.with_name("published.yaml")
    consistency = {"teacher": "ema", "published": True}
    more = {"consistency": consistency, "data": {**content["data"], "unlabelled": [raw]}}
    published.write_text(yaml.safe_dump({**content, **more}))
    volume = str(configuration.with_name("raw.zarr"))
    folder = tmp_path / "folder"
    for begin in (
        lambda: train(configuration, folder, progress=False),
        lambda: train(published, folder, progress=False),
        lambda: dry_run_training(configuration, folder),
        lambda: pretrain(pre, folder, progress=False),
        lambda: dry_run_pretraining(pre, folder),
        lambda: adapt(Request(volume, tiny_model), folder, progress=False),
    ):
        with pytest.raises(InputError, match="tried"):
            begin()
        assert not folder.exists()
    assert [each["batch"] for each in asked[:3]] == [1, 2, 1], "as published, crops with and without labels together"


def test_a_resumed_training_is_tested_and_a_finished_one_is_not(
    configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = yaml.safe_load(configuration.read_text())
    content["optimiser"]["steps"] = content["validation"]["every_steps"] = 1
    short = configuration.with_name("short.yaml")
    short.write_text(yaml.safe_dump(content))
    train(short, tmp_path / "folder", progress=False)

    def refuse(*arguments: Any, **more: Any) -> None:
        raise InputError("tried")

    monkeypatch.setattr("neuroseg.training.train.require_correct_gradients", refuse)
    train(short, tmp_path / "folder", progress=False)
    monkeypatch.setattr("neuroseg.training.train.is_over", lambda trainer: False)
    with pytest.raises(InputError, match="tried"):
        train(short, tmp_path / "folder", progress=False)


CPUINFO = Path("/proc/cpuinfo")
WHOLE = {"widths": [16, 32, 64, 128], "outputs": 3}


@pytest.mark.skipif(
    torch.__version__.split("+")[0] != "2.13.0" or not CPUINFO.exists() or "amx_bf16" not in CPUINFO.read_text(),
    reason="the fault is known of torch 2.13.0 on CPUs with AMX",
)
def test_the_fault_of_the_installed_library_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    with pytest.raises(InputError, match="bfloat16 fails on this CPU"):
        require_correct_gradients("light", WHOLE, **{**ASKED, "patch_voxels": (8, 160, 160)})


def test_a_packaged_shape_is_correct(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        require_correct_gradients("light", WHOLE, **{**ASKED, "batch": 2, "patch_voxels": (24, 80, 80)})
    assert not caplog.records, "it could not be tried"
