"""Files in a data folder are never executed: a worker imports only from its environment."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.training.learning.gradients import require_correct_gradients
from tests.execution.clusters import EXECUTORS

MODULES = ("numpy", "json", "zarr", "torch", "daisy", "logging")


def plant(folder: Path, marker: Path) -> None:
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"open({str(marker)!r}, 'w').write(__file__)\n")


@pytest.mark.parametrize("executor", EXECUTORS[1:])  # serial starts no process
def test_modules_in_the_folders_of_a_run_are_not_imported(
    executor: str, raw_volume: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, marker, workspace = tmp_path / "here", tmp_path / "executed", tmp_path / "w"
    here.mkdir()
    given = {"output": str(workspace), "blocks": "32", "workers": 2, "executor": executor}
    pipeline.predict(Options.model_validate({"volume": raw_volume, "model": tiny_model, **given}))
    plant(here, marker)
    plant(workspace, marker)  # where jobs of a cluster start
    monkeypatch.chdir(here)
    pipeline.segment(Options.model_validate({"volume": str(workspace), "executor": executor, "workers": 2}))
    assert not marker.exists(), marker.read_text()


def test_the_self_test_of_gradients_does_not_import_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plant(tmp_path, tmp_path / "executed")
    monkeypatch.chdir(tmp_path)
    require_correct_gradients(
        "light", {"widths": [4, 8], "outputs": 3}, batch=1, patch_voxels=(8, 32, 32), device=torch.device("cpu"),
        precision="bfloat16",
    )  # fmt: skip
    assert not (tmp_path / "executed").exists()
    assert not caplog.records, "the self-test ran"
