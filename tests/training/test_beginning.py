"""A training may begin with the weights of a bundle, of its own network and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from neuroseg.errors import InputError
from neuroseg.networks.bundle import open_bundle
from neuroseg.training.beginning import begin
from neuroseg.training.team import Team
from neuroseg.training.train import open_training, train
from neuroseg.training.trainer import Trainer


def edited(configuration: Path, name: str, bundle: str, **targets: Any) -> Path:
    """A copy of the configuration that begins with a bundle and learns affinities alone."""
    content = yaml.safe_load(configuration.read_text())
    content["network"]["bundle"] = bundle
    content["targets"] = targets
    content["optimiser"] |= {"steps": 2, "learning_rate": 1e-9, "weight_decay": 0.0}
    content["validation"] |= {"every_steps": 2, "statistics_samples": 0}
    path = configuration.with_name(f"{name}.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def begun(path: Path, folder: Path) -> Trainer:
    trainer = Trainer(open_training(path).settings, folder, torch.device("cpu"), Team())
    begin(trainer)
    return trainer


def test_weights_and_their_average_are_the_bundles(configuration: Path, tiny_model: str, tmp_path: Path) -> None:
    trainer = begun(edited(configuration, "begun", tiny_model), tmp_path)
    expected = open_bundle(tiny_model).network().state_dict()
    for found in (trainer.network.state_dict(), trainer.average.network.state_dict()):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_training_goes_on_from_the_bundle(configuration: Path, tiny_model: str, tmp_path: Path) -> None:
    outcome = train(edited(configuration, "slow", tiny_model), tmp_path / "run", device="cpu", progress=False)
    old, new = (open_bundle(str(each)).network().state_dict() for each in (tiny_model, outcome.bundle))
    weights = [name for name in old if name.endswith("weight")]
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in weights)
    assert any(not torch.equal(old[name], new[name]) for name in old), "it did learn"


def test_a_bundle_of_another_network_is_refused(configuration: Path, tiny_model: str, tmp_path: Path) -> None:
    for name, targets in (("auxiliary", {"auxiliary_offsets": [[0, 0, -3]]}), ("far", {"offsets": [[-1, 0, 0]] * 3})):
        with pytest.raises(InputError, match="Bundles predict affinities alone"):
            begun(edited(configuration, name, tiny_model, **targets), tmp_path)
    wide = edited(configuration, "wide", tiny_model)
    content = yaml.safe_load(wide.read_text())
    content["network"]["parameters"] = {"widths": [4, 16]}
    wide.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"\[4, 8\].*the training wants.*\[4, 16\]"):
        begun(wide, tmp_path)
    with pytest.raises(InputError, match="no model bundle at"):
        begun(edited(configuration, "nowhere", str(tmp_path / "nowhere")), tmp_path)


def test_a_bundle_that_restarting_would_delete_is_refused(configuration: Path, tiny_model: str) -> None:
    with pytest.raises(InputError, match="which --restart empties"):
        begun(edited(configuration, "own", tiny_model), Path(tiny_model).parent)


def test_a_network_begins_once(configuration: Path, tiny_model: str) -> None:
    path = edited(configuration, "twice", tiny_model)
    content = yaml.safe_load(path.read_text())
    content["network"]["encoder"] = "runs/pretraining"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="leave out one of them"):
        open_training(path)
