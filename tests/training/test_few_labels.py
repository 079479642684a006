"""The experiment's configurations are valid, and differ in what they are to compare alone."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from neuroseg.configuration import load_configuration
from neuroseg.training.settings import PretrainingSettings, TrainingSettings

EXPERIMENTS = Path(__file__).parents[2] / "scripts" / "experiments"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module("few_labels")


def test_the_arms_differ_in_nothing_else(script: ModuleType, tmp_path: Path) -> None:
    given = argparse.Namespace(
        folder=tmp_path, data=tmp_path, configs=EXPERIMENTS.parents[1] / "configs", steps=100, weight=3.0
    )
    made = {}
    for arm in script.ARMS:
        path = tmp_path / f"{arm}.yaml"
        path.write_text(yaml.safe_dump(script.training(given, arm, 5, 2)))
        made[arm] = load_configuration(path, TrainingSettings)
    supervised = made["supervised"]
    assert supervised.data.training[0].region == "58:63,:,:"
    assert supervised.consistency is None
    for arm, settings in made.items():
        for part in ("optimiser", "targets", "augmentation", "validation"):
            assert getattr(settings, part) == getattr(supervised, part), (arm, part)
        assert settings.data.training == supervised.data.training
        assert settings.validation.every_steps == settings.optimiser.steps == 100, "no step is chosen"
        assert (settings.network.encoder is None) == (arm == "supervised" or arm.endswith("_alone"))
    for arm in script.ARMS[2:]:
        assert made[arm].consistency.teacher == arm.removesuffix("_alone")
        assert made[arm].consistency.weight == 3.0
        # The labels of the judged sections are never read, nor is their raw learnt from.
        assert made[arm].data.unlabelled[0].region == "0:120,:,:"
    path = tmp_path / "pre.yaml"
    path.write_text(yaml.safe_dump(script.pretraining(given, 2)))
    assert load_configuration(path, PretrainingSettings).seed == 2


def test_the_table_has_a_row_for_each_arm(script: ModuleType, tmp_path: Path) -> None:
    rows = [
        {"sections": 5, "arm": arm, "seed": seed, "steps": 9, "weight": weight,
         "best": {"voi_sum": 1.5 + seed, "arand": 0.25}, "fixed": {"voi_sum": 3.0},
         **({"ranking_error": 0.0615} if seed == 2 else {})}
        for arm, weight in (("supervised", None), ("ema", 1.0), ("ema", 3.0)) for seed in (1, 2)
    ]  # fmt: skip
    assert (
        script.table(rows).splitlines()[-1]
        == "| 5 | ema | 3 | 9 | 1, 2 | 2.500, 3.500 | 3.000, 3.000 | 0.250, 0.250 | -, 6.15 |"
    )
    script.draw(rows, tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 1000


def test_one_folder_holds_trainings_of_several_lengths_and_weights(script: ModuleType, tmp_path: Path) -> None:
    def names(steps: int, weight: float) -> set[str]:
        given = argparse.Namespace(folder=tmp_path, data=tmp_path, configs=tmp_path, steps=steps, weight=weight)
        return {script.training(given, "ema", 5, 1)["name"], script.pretraining(given, 1)["name"]}

    assert not names(1000, 1.0) & names(2000, 1.0)
    assert len(names(1000, 1.0) | names(1000, 5.0)) == 3
