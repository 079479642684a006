"""All arms of the experiment start from the bundled model, and none trains on the scored sections."""

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
    return importlib.import_module("bundled_model")


@pytest.fixture
def given(tmp_path: Path) -> argparse.Namespace:
    configs = EXPERIMENTS.parents[1] / "configs"
    return argparse.Namespace(folder=tmp_path, data=Path("data"), configs=configs, more_steps=120, seeds=[1])


def test_the_arms_differ_only_in_their_training_data(
    script: ModuleType, given: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(script, "neuroseg", lambda *arguments: asked.append(arguments))
    made = []
    for arm in ("labels", "own_segmentation", "weight_sharing"):
        path = tmp_path / f"{arm}.yaml"
        path.write_text(yaml.safe_dump(script.continued_training(given, arm, 1, script.data_of(given, arm))))
        made.append(load_configuration(path, TrainingSettings))
    labels, own, sharing = made
    for part in ("optimiser", "targets", "augmentation", "validation", "network", "seed"):
        assert getattr(labels, part) == getattr(own, part) == getattr(sharing, part), part
    assert labels.network.bundle == "fib25_light"
    assert [(volume.region, volume.share) for volume in labels.data.training] == [("0:120,:,:", None)]
    segmented = str(tmp_path / "unlabelled.neuroseg" / "segmentation.zarr")
    assert [(volume.labels, volume.region, volume.share) for volume in own.data.training] == [
        ("fib25_ts2.h5:neuron_ids_cc", "0:120,:,:", 0.5), (segmented, None, None),
    ]  # fmt: skip
    assert sharing.data.training == labels.data.training
    assert [volume.raw for volume in sharing.data.unlabelled] == ["fib25_unlabelled.h5:raw"]
    assert sharing.consistency is not None
    assert (sharing.consistency.teacher, sharing.consistency.weight) == ("weight_sharing", 1.0)
    assert sharing.consistency.perturbations.names == ("intensity", "noise", "blur", "cutout")
    assert labels.consistency is own.consistency is None
    # No option: scoring and threshold of the card.
    assert [arguments[0] for arguments in asked] == ["run"]
    assert not {"--scoring", "--threshold"} & set(asked[0])


def test_the_shipped_model_is_scored_without_training(
    script: ModuleType, given: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*arguments: Any) -> Path:
        raise AssertionError(arguments)

    monkeypatch.setattr(script, "trained", trained)
    monkeypatch.setattr(script, "scores_of", lambda given, folder, model: {"model": model})
    given.arms = ["as_shipped"]
    rows = script.experiment(given)
    assert [(row["arm"], row["steps"], row["model"]) for row in rows] == [("as_shipped", 3000, "fib25_light")]
    monkeypatch.setattr(script, "scores_of", trained)
    assert script.experiment(given) == rows  # finished arms are not repeated
