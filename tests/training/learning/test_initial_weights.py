"""A training can start with the weights of a bundle of the same network."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from neuroseg.cli.main import exit_code
from neuroseg.errors import InputError
from neuroseg.networks.bundle import open_bundle, save_bundle
from neuroseg.networks.card import TrainingCard
from neuroseg.training.learning.initial_weights import load_initial_weights
from neuroseg.training.learning.processes import ProcessGroup
from neuroseg.training.learning.records import load_checkpoint, save_checkpoint
from neuroseg.training.learning.trainer import Trainer
from neuroseg.training.train import open_training, train

REVERSED = [[0, 0, -1], [0, -1, 0], [-1, 0, 0]]


def edited(configuration: Path, name: str, bundle: str, **targets: Any) -> Path:
    """A copy of the configuration that starts with a bundle and trains only affinities."""
    content = yaml.safe_load(configuration.read_text())
    content["network"]["bundle"] = bundle
    content["targets"] = targets
    content["optimiser"] |= {"steps": 2, "learning_rate": 1e-9, "weight_decay": 0.0}
    content["validation"] |= {"every_steps": 2, "statistics_samples": 0}
    path = configuration.with_name(f"{name}.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def begun(path: Path, folder: Path) -> Trainer:
    opened = open_training(path)
    trainer = Trainer(opened.settings, folder, torch.device("cpu"), ProcessGroup())
    load_initial_weights(trainer, opened.seen.network, (10.0, 10.0, 10.0))
    return trainer


def test_weights_and_average_start_from_the_bundle(configuration: Path, tiny_model: str, tmp_path: Path) -> None:
    trainer = begun(edited(configuration, "begun", tiny_model), tmp_path)
    expected = open_bundle(tiny_model).network().state_dict()
    for found in (trainer.network.state_dict(), trainer.average.network.state_dict()):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_training_continues_from_the_bundle(configuration: Path, tiny_model: str, tmp_path: Path) -> None:
    outcome = train(edited(configuration, "slow", tiny_model), tmp_path / "run", device="cpu", progress=False)
    old, new = (open_bundle(str(each)).network().state_dict() for each in (tiny_model, outcome.bundle))
    weights = [name for name in old if name.endswith("weight")]
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in weights)
    assert any(not torch.equal(old[name], new[name]) for name in old), "it did learn"


def test_the_card_lists_inherited_data_and_licence(configuration: Path, tiny_model: str, tmp_path: Path) -> None:
    parent = open_bundle(tiny_model)
    origin = TrainingCard(data="isbi [x < 240]", licence="not for commerce")
    save_bundle(tmp_path / "p", parent.card.model_copy(update={"training": origin}), parent.network().state_dict())
    path = edited(configuration, "inherits", str(tmp_path / "p"))
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "licence": "CC-BY"}))
    train(path, tmp_path / "run", device="cpu", progress=False)
    # Interrupted before its validation. The initial bundle is missing when the same command runs again.
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    save_checkpoint(checkpoint, {**load_checkpoint(checkpoint), "validated": 0})
    (tmp_path / "run" / "best.yaml").unlink()
    for stale in (tmp_path / "p", tmp_path / "run" / "bundle"):
        shutil.rmtree(stale)
    card = open_bundle(str(train(path, tmp_path / "run", device="cpu", progress=False).bundle)).card
    assert card.training.licence == "CC-BY; of tiny: not for commerce"
    assert "begun with tiny (" in card.training.data
    assert "trained on isbi [x < 240]" in card.training.data
    with pytest.raises(InputError, match="no model bundle at"):
        train(path, tmp_path / "run", device="cpu", progress=False, restart=True)


def test_another_voxel_size_gives_a_warning_or_an_error(
    configuration: Path, tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = edited(configuration, "sizes", tiny_model)
    trainer, network = begun(path, tmp_path), open_training(path).seen.network
    with caplog.at_level("WARNING"):
        load_initial_weights(trainer, network, (10, 6, 6))
    assert (
        "was trained with voxels of (10.0, 10.0, 10.0) nm, the training volume has voxels of (10, 6, 6) nm"
        in caplog.text
    )
    with pytest.raises(InputError, match=r"the training volume has voxels of \(40, 4, 4\) nm"):
        load_initial_weights(trainer, network, (40, 4, 4))


def test_a_bundle_of_another_network_is_refused(configuration: Path, tiny_model: str, tmp_path: Path) -> None:
    for name, targets in (("auxiliary", {"auxiliary_offsets": [[0, 0, -3]]}), ("reversed", {"offsets": REVERSED})):
        with pytest.raises(InputError, match="bundles predict only affinities"):
            begun(edited(configuration, name, tiny_model, **targets), tmp_path)
    wide = edited(configuration, "wide", tiny_model)
    content = yaml.safe_load(wide.read_text())
    content["network"]["parameters"] = {"widths": [4, 16]}
    wide.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"\[4, 8\].*the training needs.*\[4, 16\]"):
        begun(wide, tmp_path)
    with pytest.raises(InputError, match="no model bundle at"):
        begun(edited(configuration, "nowhere", str(tmp_path / "nowhere")), tmp_path)


def test_a_bundle_inside_the_output_folder_is_refused(configuration: Path, tiny_model: str) -> None:
    with pytest.raises(InputError, match="which --restart empties"):
        begun(edited(configuration, "own", tiny_model), Path(tiny_model).parent)


def test_encoder_and_bundle_exclude_each_other(configuration: Path, tiny_model: str) -> None:
    path = edited(configuration, "twice", tiny_model)
    content = yaml.safe_load(path.read_text())
    content["network"]["encoder"] = "runs/pretraining"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="remove one of them"):
        open_training(path)


def without_bundle(configuration: Path, name: str, **network: str) -> Path:
    path = edited(configuration, name, "none")
    content = yaml.safe_load(path.read_text())
    del content["network"]["bundle"]
    content["network"] |= network
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_initial_model_can_be_an_option(
    configuration: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = without_bundle(configuration, "option"), tmp_path / "run"
    command = ["train", str(path), "-o", str(folder), "--device", "cpu"]
    assert exit_code([*command, "--from", tiny_model]) == 0
    stored = yaml.safe_load((folder / "configuration.yaml").read_text())
    assert stored["network"]["bundle"] == tiny_model
    card = open_bundle(str(folder / "bundle")).card
    assert "begun with tiny (" in card.training.data
    assert shlex.split(card.training.command) == ["neuroseg", *command, "--from", tiny_model], "as it was typed"
    assert card.training.configuration == "option"
    assert exit_code([*command, "--from", f"{tiny_model}/"]) == 0, "the same folder"
    named = edited(configuration, "option", tiny_model)
    assert exit_code(["train", str(named), "-o", str(folder), "--device", "cpu"]) == 0, "the same training"
    without_bundle(configuration, "option")
    capsys.readouterr()
    assert exit_code(command) == 2
    assert "contains a training of another configuration" in capsys.readouterr().err


def test_a_dry_run_uses_the_initial_model(
    configuration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = without_bundle(configuration, "dry")
    assert exit_code(["train", str(path), "--from", str(tmp_path / "absent"), "--dry-run", "--device", "cpu"]) == 2
    assert f"no model bundle at {tmp_path / 'absent'}" in capsys.readouterr().err
    assert exit_code(["train", str(path), "--from", "./fib25_light", "--dry-run", "--device", "cpu"]) == 2
    assert "./fib25_light" in capsys.readouterr().err, "a folder, not the bundled model"
    assert exit_code(["train", str(path), "--from", "fib25_light", "--preview"]) == 2
    assert "leave out --from" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["encoder", "bundle"])
def test_from_does_not_override_the_configuration(
    key: str, configuration: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = without_bundle(configuration, "else", **{key: "runs/other"})
    assert exit_code(["train", str(path), "--from", tiny_model, "-o", str(tmp_path / "run")]) == 2
    assert (
        f"conflicts with network.{key} runs/other in the configuration\nhint: remove one of them"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()
