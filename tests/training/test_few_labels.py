"""The configurations of the experiment are valid and differ only in the compared settings."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from neuroseg.configuration import load_configuration
from neuroseg.training.pretraining_settings import PretrainingSettings
from neuroseg.training.settings import TrainingSettings

EXPERIMENTS = Path(__file__).parents[2] / "scripts" / "experiments"
pytestmark = pytest.mark.long


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module("few_labels")


def test_the_arms_differ_in_nothing_else(script: ModuleType, tmp_path: Path) -> None:
    given = argparse.Namespace(
        folder=tmp_path, data=tmp_path, configs=EXPERIMENTS.parents[1] / "configs", steps=100, weight=3.0,
        perturbations=["flip", "rotate"],
    )  # fmt: skip
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
        assert list(made[arm].consistency.perturbations.names) == ["flip", "rotate"]
        # Labels and raw of the scored sections are not used for training.
        assert made[arm].data.unlabelled[0].region == "0:120,:,:"
    path = tmp_path / "pre.yaml"
    path.write_text(yaml.safe_dump(script.pretraining(given, 2)))
    assert load_configuration(path, PretrainingSettings).seed == 2


def test_the_packaged_configuration_is_that_of_weight_sharing(script: ModuleType, tmp_path: Path) -> None:
    given = argparse.Namespace(
        folder=tmp_path, data=tmp_path, configs=EXPERIMENTS.parents[1] / "configs", steps=1000, weight=1.0,
        perturbations=list(script.USUAL),
    )  # fmt: skip
    path = tmp_path / "arm.yaml"
    path.write_text(yaml.safe_dump(script.training(given, "weight_sharing", 5, 1)))
    arm, recipe = (
        load_configuration(each, TrainingSettings) for each in (path, given.configs / "fib25_d5_u_pretrained.yaml")
    )
    for part in ("optimiser", "targets", "augmentation", "consistency", "seed"):
        assert getattr(recipe, part) == getattr(arm, part), part
    assert (recipe.data.training, recipe.data.unlabelled) == (arm.data.training, arm.data.unlabelled)
    assert recipe.network.encoder == "runs/pretraining_fib25"
    assert recipe.network.model_copy(update={"encoder": arm.network.encoder}) == arm.network
    pretraining = tmp_path / "pre.yaml"
    pretraining.write_text(yaml.safe_dump(script.pretraining(given, 1)))
    made, packaged = (
        load_configuration(each, PretrainingSettings)
        for each in (pretraining, given.configs / "pretraining_fib25.yaml")
    )
    assert (made.optimiser, made.perturbations, made.seed) == (
        packaged.optimiser,
        packaged.perturbations,
        packaged.seed,
    )


def test_the_table_has_a_row_for_each_arm(script: ModuleType, tmp_path: Path) -> None:
    rows = [
        {"sections": 5, "arm": arm, "seed": seed, "steps": 9, "weight": weight, "perturbations": perturbations,
         "best": {"voi_sum": 1.5 + seed, "arand": 0.25}, "fixed": {"voi_sum": 3.0},
         **({"ranking_error": 0.0615, "best_of_others": {"voi_sum": 1.25}, "best_by_mean": {"voi_sum": 1.75}}
            if seed == 2 else {})}
        for arm, weight, perturbations in (
            ("supervised", None, None), ("ema", 1.0, None), ("ema", 3.0, None), ("ema", 3.0, "flip rotate")
        ) for seed in (1, 2)
    ]  # fmt: skip
    scores = "9 | 1, 2 | 2.500, 3.500 | 3.000, 3.000 | 0.250, 0.250 | -, 1.750 | -, 1.250 | -, 6.15 |"
    assert script.table(rows).splitlines()[-2:] == [
        f"| 5 | ema | 3 |  | {scores}",
        f"| 5 | ema | 3 | flip rotate | {scores}",
    ]
    script.draw(rows, tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 1000


def test_one_folder_contains_every_kind_of_training(script: ModuleType, tmp_path: Path) -> None:
    def name(arm: str, steps: int = 1000, weight: float = 1.0, perturbations: Sequence[str] = script.USUAL) -> str:
        given = argparse.Namespace(
            folder=tmp_path, data=tmp_path, configs=tmp_path, steps=steps, weight=weight, perturbations=perturbations
        )
        return str(script.training(given, arm, 5, 1)["name"])

    kinds: list[dict[str, Any]] = [{}, {"steps": 2000}, {"weight": 5.0}, {"perturbations": ["flip"]}]
    assert len({name("ema", **kind) for kind in kinds}) == 4
    assert name("ema") == "ema_5_1_steps_1000_weight_1"
    assert name("ema", perturbations=["flip"]) == "ema_5_1_steps_1000_weight_1_flip"
    assert len({name("supervised", **kind) for kind in kinds}) == 2, "which consistency does not concern"
    short, long = (argparse.Namespace(folder=tmp_path, data=tmp_path, configs=tmp_path, steps=n) for n in (10, 20))
    assert script.pretraining(short, 1)["name"] != script.pretraining(long, 1)["name"]


def test_finished_arms_are_not_repeated(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = []

    def trained(given: argparse.Namespace, command: str, content: dict[str, Any]) -> Path:
        run.append((command, content["name"]))
        return tmp_path

    scores = {"voi_sum": 1.0, "arand": 0.5}
    monkeypatch.setattr(script, "trained", trained)
    monkeypatch.setattr(script, "scores_of", lambda *_: {"fixed": scores, "best": scores, "ranking_error": 0.06})

    def experiment(*perturbations: str) -> list[dict[str, Any]]:
        given = argparse.Namespace(
            folder=tmp_path, data=tmp_path, configs=tmp_path, steps=10, weight=5.0, perturbations=perturbations,
            sections=[5], seeds=[1], arms=["supervised", "ema_alone"],
        )  # fmt: skip
        run.clear()
        rows: list[dict[str, Any]] = script.experiment(given)
        return rows

    assert len(experiment(*script.USUAL)) == len(run) == 2
    assert len(experiment("flip")) == 3
    assert run == [("train", "ema_alone_5_1_steps_10_weight_5_flip")], "the supervised one is the same"
    assert len(experiment("flip")) == 3
    assert not run
    rows = [{**row} for row in experiment("flip") if row.pop("perturbations") is None]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    assert len(experiment(*script.USUAL)) == 2
    assert not run, "of an older form, which had the usual ones alone"


def test_best_thresholds_are_reported_with_and_without_the_largest_object(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def neuroseg(*arguments: str) -> dict[str, Any]:
        if arguments[0] in ("run", "segment"):
            assert arguments[0] == "segment" or arguments[arguments.index("--model") + 1] == "a bundle"
            return {}
        assert arguments[0] == "evaluate"
        others = "--ignore" in arguments
        assert not others or arguments[arguments.index("--ignore") + 1] == "0,7"
        more = others + 2 * arguments[1].endswith("judged_by_mean.neuroseg")
        found = [{"voi_sum": value + more, "threshold": value} for value in (1.75, 1.25, 1.5)]
        return {"voi_sum": 2.0 + others, "sweep": found}

    monkeypatch.setattr(script, "neuroseg", neuroseg)
    monkeypatch.setattr(script, "largest_object", lambda data: 7)
    monkeypatch.setattr(script, "ranking_error_of", lambda *_: 0.0625)
    assert script.scores_of(argparse.Namespace(data=tmp_path), tmp_path, "a bundle") == {
        "fixed": {"voi_sum": 2.0},
        "best": {"voi_sum": 1.25, "threshold": 1.25},
        "best_of_others": {"voi_sum": 2.25, "threshold": 1.25},
        "best_by_mean": {"voi_sum": 3.25, "threshold": 1.25},
        "ranking_error": 0.0625,
    }


def test_the_largest_object_is_that_of_the_scored_sections(script: ModuleType, tmp_path: Path) -> None:
    labels = np.zeros((160, 2, 4), np.uint32)
    labels[:120] = 9
    labels[120:, 0, :2] = 7
    labels[120:, 1, :1] = 8
    with h5py.File(tmp_path / "fib25_ts2.h5", "w") as file:
        file["neuron_ids_cc"] = labels
    assert script.largest_object(tmp_path) == 7, "of 120-159, and not what is no object"
