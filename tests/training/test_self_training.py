"""Both arms of the experiment start from the same weights and use only the labels of five sections."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from neuroseg.configuration import load_configuration
from neuroseg.training.settings import TrainingSettings

EXPERIMENTS = Path(__file__).parents[2] / "scripts" / "experiments"
pytestmark = pytest.mark.long


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module("self_training")


@pytest.fixture
def given(tmp_path: Path) -> argparse.Namespace:
    configs = EXPERIMENTS.parents[1] / "configs"
    return argparse.Namespace(folder=tmp_path, data=Path("data"), configs=configs, steps=1000, more_steps=100)


def test_the_arms_differ_only_in_their_training_data(
    script: ModuleType, given: argparse.Namespace, tmp_path: Path
) -> None:
    segmented = [{"raw": "fib25_ts2.h5:raw", "labels": "w.neuroseg/segmentation.zarr", "region": "0:120,:,:"}]
    made = []
    for more in ([], segmented):
        path = tmp_path / f"{len(more)}.yaml"
        path.write_text(
            yaml.safe_dump(script.continued_training(given, f"arm_{len(more)}", 2, tmp_path / "begun", more))
        )
        made.append(load_configuration(path, TrainingSettings))
    labels, own = made
    for part in ("optimiser", "targets", "augmentation", "validation", "network", "seed"):
        assert getattr(labels, part) == getattr(own, part), part
    assert labels.network.bundle == str(tmp_path / "begun" / "bundle")
    assert [(volume.region, volume.share) for volume in labels.data.training] == [("58:63,:,:", None)]
    assert [(volume.region, volume.share) for volume in own.data.training] == [("58:63,:,:", 0.5), ("0:120,:,:", None)]


def test_the_threshold_is_that_of_the_labelled_sections(
    script: ModuleType, given: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def neuroseg(*arguments: str) -> dict[str, Any]:
        asked.append(arguments)
        return {"sweep": [{"threshold": threshold, "voi_sum": abs(threshold - 0.8)} for threshold in (0.6, 0.78, 0.9)]}

    monkeypatch.setattr(script, "neuroseg", neuroseg)
    volumes = script.own_segmentation(given, tmp_path / "begun", 2)
    evaluated = [arguments for arguments in asked if arguments[0] == "evaluate"]
    assert [arguments[arguments.index("--roi") + 1] for arguments in evaluated] == ["58:63,:,:"]
    segmented = [arguments for arguments in asked if arguments[0] == "segment"]
    assert [arguments[arguments.index("--threshold") + 1] for arguments in segmented] == ["0.78", "0.78"]
    assert [volume["region"] for volume in volumes] == list(script.SEGMENTED.values())
    assert all(volume["labels"] == f"{arguments[1]}/segmentation.zarr"
               for volume, arguments in zip(volumes, segmented, strict=True))  # fmt: skip
