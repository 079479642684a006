"""The variants of the ablation are valid and differ only as their names say. The ranking error is correct."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
import yaml
import zarr

from neuroseg.configuration import load_configuration
from neuroseg.training.data.affinity_targets import affinity_targets
from neuroseg.training.settings import TrainingSettings

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
EXPERIMENTS = Path(__file__).parents[2] / "scripts" / "experiments"
pytestmark = pytest.mark.long


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module("ablate_consistency")


@pytest.fixture
def ranking(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module("ranking")


def named(variant: str, perturbations: Sequence[str]) -> set[str]:
    """Return the options that a variant changes, from its name."""
    words = {
        r"^weight_\d": "weight",
        r"weight_sharing": "teacher",
        r"teacher_of": "teacher_orientations",
        r"confidence": "confidence",
        r"ramped": "ramp_steps",
        rf"perturbations|cutout|strong|{'|'.join(perturbations)}": "perturbations",
    }
    return {option for word, option in words.items() if re.search(word, variant)}


def test_variants_differ_only_in_consistency(ablation: ModuleType, tmp_path: Path) -> None:
    given = argparse.Namespace(
        folder=tmp_path, data=tmp_path, configs=EXPERIMENTS.parents[1] / "configs", tuned_steps=50, learning_rate=1e-3
    )
    made = {}
    for variant in ablation.VARIANTS:
        path = tmp_path / "variant.yaml"
        path.write_text(yaml.safe_dump(ablation.tuning(given, variant, 3, tmp_path / "bundle")))
        made[variant] = load_configuration(path, TrainingSettings)
    labels, usual = made.pop("labels"), made["averaged_teacher"]
    assert labels.consistency is None
    assert usual.consistency is not None
    assert usual.consistency.begin_step == usual.consistency.ramp_steps == 0
    for variant, settings in made.items():
        for part in ("seed", "optimiser", "targets", "augmentation", "validation", "network"):
            assert getattr(settings, part) == getattr(labels, part), (variant, part)
        assert settings.data.training == labels.data.training
        mine, its = (each.consistency.model_dump() for each in (settings, usual))
        assert {name for name in its if mine[name] != its[name]} == named(variant, ablation.SINGLE), variant
        weight = re.match(r"weight_([\d.]+)", variant)
        assert mine["weight"] == (float(weight[1]) if weight else 1.0), variant
        listed = variant.removeprefix(weight[0] if weight else "").removesuffix("_teacher_of_4").strip("_").split("_")
        if set(listed) <= set(ablation.SINGLE):
            assert set(mine["perturbations"]["names"]) == set(listed), variant
    assert len({settings.name for settings in made.values()}) == len(made)


def test_the_table_compares_with_labels_only(ablation: ModuleType, tmp_path: Path) -> None:
    rows = [
        {"variant": variant, "seed": seed, "steps": 9, "ranking_error": error + seed / 1000, "voi_sum": 1.5 + seed}
        for variant, error in (("labels", 0.05), ("weight_5", 0.0625)) for seed in (3, 4)
    ]  # fmt: skip
    lines = ablation.table(rows).splitlines()
    assert lines[-2] == "| labels | 9 | 3, 4 | 5.30, 5.40 | +0.00, +0.00 | 4.500, 5.500 |"
    assert lines[-1] == "| weight_5 | 9 | 3, 4 | 6.55, 6.65 | +1.25, +1.25 | 4.500, 5.500 |"
    longer = {**rows[0], "steps": 18, "ranking_error": 0.03}
    assert ablation.against_labels([*rows, longer], "weight_5", 9) == pytest.approx([1.25, 1.25]), "of as many steps"
    ablation.draw(rows, tmp_path / "ablation.png")
    assert (tmp_path / "ablation.png").stat().st_size > 1000


def test_wrongly_ordered_pairs_are_counted(ranking: ModuleType) -> None:
    linked = np.array([1, 1, 0, 0], np.float32).reshape(1, 1, 1, 4)
    known = np.ones_like(linked)

    def error(*values: int) -> float:
        return float(ranking.ranking_error(np.array(values, np.uint8).reshape(linked.shape), linked, known))

    assert error(200, 255, 10, 0) == 0.0
    assert error(0, 10, 255, 200) == 1.0
    assert error(7, 7, 7, 7) == 0.5, "ties count half"
    assert error(200, 5, 100, 0) == 0.25, "one of four pairs"
    known[..., 1] = 0
    assert error(200, 5, 100, 0) == 0.0, "what nobody knows does not count"


def test_no_pairs_give_nan(ranking: ModuleType) -> None:
    linked = np.ones((1, 1, 1, 4), np.float32)
    assert np.isnan(ranking.ranking_error(np.zeros(linked.shape, np.uint8), linked, linked))


def test_chance_gives_one_half(ranking: ModuleType) -> None:
    rng = np.random.default_rng(1)
    linked = (rng.uniform(size=(3, 20, 20, 20)) < 0.8).astype(np.float32)
    values = rng.integers(0, 256, linked.shape).astype(np.uint8)
    assert ranking.ranking_error(values, linked, np.ones_like(linked)) == pytest.approx(0.5, abs=0.02)


def test_errors_are_reported_for_each_stretch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXPERIMENTS)
    sections = importlib.import_module("errors_by_section")
    monkeypatch.setattr(sections, "DEPTH", 12)
    labels = np.random.default_rng(0).integers(1, 3, (12, 4, 8)).astype(np.uint32)
    with h5py.File(tmp_path / "fib25_ts2.h5", "w") as file:
        file["neuron_ids_cc"] = labels
    linked, _ = affinity_targets(labels, OFFSETS)
    said = np.where(linked > 0, 200, 50).astype(np.uint8)
    said[:, 4:8] = 7
    training = tmp_path / "supervised"
    training.mkdir()
    (training / "configuration.yaml").write_text("data: {training: [{region: '3:5,:,:'}]}")
    attributes = {"offsets": [list(offset) for offset in OFFSETS]}

    def predicted(*command: str) -> None:
        assert command[:2] == ("predict", f"{tmp_path / 'fib25_ts2.h5'}:raw")
        path = Path(command[command.index("-o") + 1]) / "affinities.zarr"
        zarr.create_array(str(path), data=said, attributes=attributes)

    monkeypatch.setattr(sections, "neuroseg", predicted)
    given = argparse.Namespace(folder=tmp_path, data=tmp_path, stretch=4)
    found = sections.errors_of(given, training)
    assert found[1] == pytest.approx(0.5), "what says the same of all"
    assert found[0] == 0.0, "perfect, and the first section links to none below"
    assert sections.labelled_sections(training) == (3, 5)
    sections.draw({"a": {"labelled": (3, 5), "errors": [0.1, 0.2, 0.1]}}, 4, tmp_path / "s.png")
    assert (tmp_path / "s.png").stat().st_size > 1000
