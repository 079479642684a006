"""A dry run counts the windows, batches and voxels of a real validation."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from neuroseg.affinities.inference import Predictor
from neuroseg.cli.main import exit_code
from neuroseg.training.judging.dry_run import as_text
from neuroseg.training.judging.duration import validation_count
from neuroseg.training.learning import statistics
from neuroseg.training.train import dry_run_training, train


def ticking() -> Callable[[], float]:
    """A clock with which each timed call takes one second."""
    seconds = itertools.count()
    return lambda: float(next(seconds))


def changed(configuration: Path, **validation: object) -> Path:
    content = yaml.safe_load(configuration.read_text())
    content["optimiser"]["steps"] = 5
    content["validation"] |= {"every_steps": 2, "statistics_samples": 3, **validation}
    path = configuration.with_name("foretold.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("blend", ["centre", "gaussian"])
def test_a_dry_run_counts_the_work_of_a_validation(
    blend: str, configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = changed(configuration, blend=blend, surround_voxels=[4, 0, 0])
    found = dry_run_training(path, tmp_path / "dry", device="cpu", clock=ticking())
    counts = {"windows": 0, "voxels": 0, "batches": 0}
    predict, passed = Predictor.outputs, statistics._tensors

    def counted(predictor: Predictor, windows: torch.Tensor) -> object:
        counts["windows"] += len(windows)
        counts["voxels"] += windows.numel()
        return predict(predictor, windows)

    def counted_batches(*given: object) -> object:
        for batch in passed(*given):  # type: ignore[arg-type]
            counts["batches"] += 1
            yield batch

    monkeypatch.setattr(Predictor, "outputs", counted)
    monkeypatch.setattr(statistics, "_tensors", counted_batches)
    monkeypatch.setattr("neuroseg.training.train.context_effect", lambda *given: {})
    train(path, tmp_path / "run", device="cpu", progress=False)
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert found["validations"] == sum("validation/voi_sum" in row for row in rows) == 3, "after steps 2, 4 and 5"
    parts = found["validation_parts_seconds"]
    assert parts["prediction"] * 3 == counts["windows"], "one second each"
    assert parts["statistics"] * 3 == counts["batches"]
    assert parts["segmentation"] == 1, "measured on the whole, which is small"
    total = sum(parts.values())
    assert found["seconds_per_validation"] == pytest.approx(total)
    assert found["validation_hours"] == pytest.approx(3 * total / 3600, abs=1e-4)
    assert found["training_hours"] == pytest.approx(5 * 2 / 3600, abs=1e-4), "a sample and a step, a second each"
    assert found["hours"] == pytest.approx((5 * 2 + 3 * total) / 3600, abs=1e-4)


def test_the_first_validation_also_predicts_twice_the_context(
    configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = changed(configuration, statistics_samples=0, every_steps=5)
    found = dry_run_training(path, tmp_path / "dry", device="cpu", clock=ticking())
    voxels, predict = [0], Predictor.outputs

    def counted(predictor: Predictor, windows: torch.Tensor) -> object:
        voxels[0] += windows.numel()
        return predict(predictor, windows)

    monkeypatch.setattr(Predictor, "outputs", counted)
    train(path, tmp_path / "run", device="cpu", progress=False)
    parts = found["validation_parts_seconds"]
    # The region has 8 sections: its tiles at z 16 to 32, windows of 32 x 32 x 32 voxels.
    assert parts["prediction"] + parts["context"] == pytest.approx(voxels[0] / 32**3)
    assert "statistics" not in as_text(found, tmp_path).split("validation:")[1].splitlines()[0]


def test_validations_follow_every_n_steps_and_the_last() -> None:
    assert [validation_count(steps, 500) for steps in (1, 499, 500, 501, 3000)] == [1, 1, 1, 2, 6]


def test_a_dry_run_reports_training_validation_and_their_total(
    configuration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = dry_run_training(changed(configuration), tmp_path / "dry", device="cpu")
    text = as_text({**found, "training_hours": 0.1, "validation_hours": 2.4, "hours": 2.5}, tmp_path / "dry")
    assert "training:   6.0 min (5 steps of 1 patches of 24 x 24 x 24 voxels" in text
    assert "validation: 2.4 hours (3 times " in text
    assert "total:      2.5 hours, validation included; " in text


def test_a_validation_shows_its_progress(
    configuration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(changed(configuration)), "-o", str(tmp_path / "run"), "--device", "cpu"]
    assert exit_code(command) == 0
    assert "validation: 100%" in capsys.readouterr().err
