"""Pre-training restores crops and resumes exactly. Training starts with its encoder."""

from __future__ import annotations

import copy
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
import zarr
from pydantic import ValidationError

from neuroseg.cli.main import exit_code
from neuroseg.errors import InputError, NeurosegError, RunRefusedError
from neuroseg.networks.architectures import build_network
from neuroseg.networks.bundle import open_bundle
from neuroseg.networks.encoder import load_encoder
from neuroseg.training.judging.dry_run import held_bytes
from neuroseg.training.learning.initial_weights import load_initial_weights
from neuroseg.training.learning.loop import Learner
from neuroseg.training.learning.processes import ProcessGroup
from neuroseg.training.learning.records import load_checkpoint
from neuroseg.training.learning.trainer import Trainer
from neuroseg.training.pretrain import Restorer, pretrain, restored
from neuroseg.training.pretraining_settings import PretrainingSettings
from neuroseg.training.train import open_training, train
from tests.training.test_training import edited_section, interrupt_after


@pytest.fixture(autouse=True)
def _heeding() -> Iterator[None]:
    """Restore SIGINT: tests run as a background command of a shell would ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def pretraining(configuration: Path) -> Path:
    """A pre-training of a few steps on the volume of `configuration`."""
    content = {
        "name": "pre",
        "loader_workers": 0,
        "data": {
            "folders": [str(configuration.parent)],
            "training": [{"raw": "raw.zarr", "region": "0:24,:,:"}],
            "validation": {"raw": "raw.zarr", "region": "16:32,:,:"},
        },
        "network": {"parameters": {"widths": [4, 8]}},
        "optimiser": {"steps": 40, "batch": 1, "patch_voxels": [8, 24, 24], "learning_rate": 0.01, "warm_up_steps": 2},
        "validation": {"every_steps": 20},
    }
    path = configuration.with_name("pretraining.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def errors_of(folder: Path) -> list[float]:
    """Return the error on held-out crops at each validation."""
    rows = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    return [float(value) for _, name, value in rows if name == "validation/error"]


def test_it_learns_to_restore_held_out_crops(pretraining: Path, tmp_path: Path) -> None:
    """Better than constant weights, for which only the statistics of the normalisation change."""
    errors = []
    for rate in (0.01, 1e-12):
        content = yaml.safe_load(pretraining.read_text())
        content["optimiser"] |= {"steps": 80, "learning_rate": rate}
        content["validation"]["every_steps"] = 80
        path = tmp_path / f"{rate}.yaml"
        path.write_text(yaml.safe_dump(content))
        pretrain(path, tmp_path / f"{rate}", device="cpu", progress=False)
        errors += errors_of(tmp_path / f"{rate}")
    learnt, still = errors
    assert learnt < 0.7 * still


def test_training_starts_with_the_encoder_of_a_pretraining(
    pretraining: Path, configuration: Path, tmp_path: Path
) -> None:
    made = pretrain(pretraining, tmp_path / "pre", device="cpu", progress=False)
    settings = PretrainingSettings.model_validate(yaml.safe_load(pretraining.read_text()))
    assert made.step == 40
    assert len(errors_of(tmp_path / "pre")) == 2
    network = {"parameters": {"widths": [4, 8]}, "encoder": str(tmp_path / "pre")}
    path = edited_section(configuration, "encoded", network=network)
    content = yaml.safe_load(path.read_text())
    del content["data"]["unlabelled"]
    content["optimiser"] |= {"steps": 1, "learning_rate": 1e-9}
    path.write_text(yaml.safe_dump(content))
    train(path, tmp_path / "run", device="cpu", progress=False)
    trained = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["network"]
    restored = Restorer(settings, tmp_path / "pre", torch.device("cpu"), ProcessGroup())
    restored.load()
    for name, tensor in restored.network.state_dict().items():
        if name.startswith(("stem.", "encoder.")) and name.endswith("weight"):
            assert torch.allclose(trained[name], tensor, atol=1e-6), name


def test_the_loss_is_the_error_of_the_restored_crop(pretraining: Path, tmp_path: Path) -> None:
    settings = PretrainingSettings.model_validate(yaml.safe_load(pretraining.read_text()))
    restorer = Restorer(settings, tmp_path, torch.device("cpu"), ProcessGroup())
    batch = {name: torch.rand(1, 1, 8, 8, 8) for name in ("perturbed", "clean")}
    with torch.no_grad():
        found = restored(copy.deepcopy(restorer.network), batch["perturbed"], "bfloat16")
    assert restorer.update(batch)["total"] == pytest.approx(((found - batch["clean"]) ** 2).mean().item(), rel=1e-5)


@pytest.mark.parametrize("key", ["margin_voxels", "average_decay"])
def test_keys_that_pretraining_does_not_use_are_refused(pretraining: Path, key: str) -> None:
    content = yaml.safe_load(pretraining.read_text())
    content["optimiser"][key] = {"margin_voxels": [2, 2, 2], "average_decay": 0.9}[key]
    with pytest.raises(ValidationError, match=key):
        PretrainingSettings.model_validate(content)


def test_a_resumed_pretraining_equals_an_uninterrupted_one(pretraining: Path, tmp_path: Path) -> None:
    pretrain(pretraining, tmp_path / "uncut", device="cpu", progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuroseg.training.learning.loop.Records.write", interrupt_after(20))
        with pytest.raises(KeyboardInterrupt):
            pretrain(pretraining, tmp_path / "cut", device="cpu", progress=False)
    pretrain(pretraining, tmp_path / "cut", device="cpu", progress=False)
    one, other = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("uncut", "cut"))
    assert one["step"] == other["step"] == 40
    assert all(torch.equal(tensor, other["network"][name]) for name, tensor in one["network"].items())


def test_an_interrupted_step_is_completed_and_saved(
    configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in step 7 saves the complete step 7. The resumed training equals an uninterrupted one."""
    train(configuration, tmp_path / "uncut", device="cpu", progress=False)
    update = Trainer.update

    def interrupted(trainer: Trainer, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        if trainer.step == 6:
            signal.raise_signal(signal.SIGINT)
        return update(trainer, batch)

    monkeypatch.setattr(Trainer, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(configuration, tmp_path / "cut", device="cpu", progress=False)
    assert load_checkpoint(tmp_path / "cut" / "checkpoint.pt")["step"] == 7
    train(configuration, tmp_path / "cut", device="cpu", progress=False)
    one, other = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("uncut", "cut"))
    assert all(torch.equal(tensor, other["average"][name]) for name, tensor in one["average"].items())


def test_an_interrupted_validation_is_repeated(
    configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("neuroseg.training.train.validate", lambda *given, **more: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train(configuration, tmp_path / "run", device="cpu", progress=False)
    state = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert (state["step"], state["validated"]) == (12, 0)
    train(configuration, tmp_path / "run", device="cpu", progress=False)
    rows = [line.split(",") for line in (tmp_path / "run" / "log.csv").read_text().splitlines()]
    assert [step for step, name, _ in rows if name == "validation/voi_sum"] == ["12", "24"]


def test_an_interrupted_last_validation_is_repeated(
    configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at the last step, which is not a multiple of the validation interval."""
    content = yaml.safe_load(configuration.read_text())
    content["optimiser"]["steps"], content["validation"]["every_steps"] = 6, 12
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump(content))
    with monkeypatch.context() as patch:
        patch.setattr("neuroseg.training.train.validate", lambda *given, **more: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train(path, tmp_path / "run", device="cpu", progress=False)
    assert train(path, tmp_path / "run", device="cpu", progress=False).step == 6


def test_a_network_of_valid_convolutions_trains_and_refuses_wrong_sizes(configuration: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(configuration.read_text())
    content["network"] = {"architecture": "mala", "parameters": {"widths": [3, 4]}}
    content["targets"] = {}
    content["optimiser"] |= {"steps": 2, "patch_voxels": [16, 28, 28], "margin_voxels": [6, 10, 10]}
    content["augmentation"] = {"orientations": "in_plane"}
    content["validation"] |= {"every_steps": 2, "tile_voxels": [8, 8, 8], "context_voxels": [6, 10, 10]}

    def written(**more: object) -> Path:
        path = tmp_path / "mala.yaml"
        path.write_text(yaml.safe_dump({**content, "optimiser": content["optimiser"] | more}))
        return path

    outcome = train(written(), tmp_path / "run", device="cpu", progress=False)
    assert open_bundle(str(outcome.bundle)).card.tile.context_voxels == (6, 10, 10)
    cut = []
    for blocks in ("16", "32"):
        workspace = tmp_path / f"{blocks}.neuroseg"
        command = ["predict", str(configuration.parent / "raw.zarr"), "--model", str(outcome.bundle)]
        assert exit_code([*command, "--blocks", blocks, "--executor", "serial", "-o", str(workspace)]) == 0
        cut.append(zarr.open_array(str(workspace / "affinities.zarr"), mode="r")[:])
    assert np.array_equal(*cut)
    assert cut[0].std() > 0
    for more, message in (
        ({"patch_voxels": [16, 28, 29]}, "does not accept"), ({"margin_voxels": [5, 10, 10]}, "loses"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            train(written(**more), tmp_path / "other", device="cpu", progress=False)
        assert not (tmp_path / "other").exists()
    content["validation"]["tile_voxels"] = [8, 8, 9]
    with pytest.raises(InputError, match="does not accept"):
        train(written(), tmp_path / "other", device="cpu", progress=False)


def test_a_network_of_valid_convolutions_trains_with_moves_and_turns(configuration: Path, tmp_path: Path) -> None:
    path = edited_section(
        configuration, "valid",
        network={"architecture": "mala", "parameters": {"widths": [3, 4]}},
        targets={},
        augmentation={"orientations": "in_plane"},
        consistency={"teacher": "ema", "teacher_orientations": 4, "perturbations": {"names": ["misalign", "rotate"]}},
    )  # fmt: skip
    content = yaml.safe_load(path.read_text())
    content["optimiser"] |= {"steps": 3, "patch_voxels": [16, 28, 28], "margin_voxels": [6, 10, 10]}
    content["validation"] |= {"every_steps": 3, "tile_voxels": [8, 8, 8], "context_voxels": [6, 10, 10]}
    path.write_text(yaml.safe_dump(content))
    train(path, tmp_path / "run", device="cpu", progress=False)
    losses = [line for line in (tmp_path / "run" / "log.csv").read_text().splitlines() if "loss/consistency" in line]
    assert losses
    assert all(0 <= float(line.split(",")[2]) < 1 for line in losses)


def test_results_of_an_unknown_training_are_not_overwritten(configuration: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "bundle").mkdir(parents=True)
    with pytest.raises(RunRefusedError, match="unknown training"):
        train(configuration, tmp_path / "run", device="cpu", restart=True, progress=False)
    assert (tmp_path / "run" / "bundle").exists()


def test_a_loss_that_is_not_finite_saves_its_batch(
    configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "neuroseg.training.learning.trainer.training_loss",
        lambda *given, **more: {"total": torch.tensor(0 / 1e-9).log()},
    )
    with pytest.raises(NeurosegError, match="batch-0"):
        train(configuration, tmp_path / "run", device="cpu", progress=False)
    assert load_checkpoint(tmp_path / "run" / "batch-0.pt")["raw"].shape == (1, 1, 24, 24, 24)


def test_an_encoder_of_another_network_is_refused(pretraining: Path, tmp_path: Path) -> None:
    settings = PretrainingSettings.model_validate(yaml.safe_load(pretraining.read_text()))
    learner: Learner = Restorer(settings, tmp_path, torch.device("cpu"), ProcessGroup())
    learner.save()
    network = build_network("light", {"widths": [4, 8]})
    load_encoder(tmp_path, network, "light", {"widths": [4, 8]})
    with pytest.raises(InputError, match=r"belongs to .*, not to"):
        load_encoder(tmp_path, build_network("light", {"widths": [4, 6]}), "light", {"widths": [4, 6]})
    with pytest.raises(InputError, match="no encoder at"):
        load_encoder(tmp_path / "nowhere", network, "light", {"widths": [4, 8]})
    (tmp_path / "encoder.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="cannot read the encoder"):
        load_encoder(tmp_path, network, "light", {"widths": [4, 8]})


def test_the_teacher_starts_with_the_encoder(pretraining: Path, configuration: Path, tmp_path: Path) -> None:
    settings = PretrainingSettings.model_validate(yaml.safe_load(pretraining.read_text()))
    restorer, name = (
        Restorer(settings, tmp_path, torch.device("cpu"), ProcessGroup()),
        "encoder.0.first_norm.running_mean",
    )
    restorer.network.state_dict()[name].fill_(5.0)
    restorer.save()
    network = {"parameters": {"widths": [4, 8]}, "encoder": str(tmp_path)}
    path = edited_section(configuration, "taught", network=network, consistency={"teacher": "ema", "published": True})
    opened = open_training(path)
    trainer = Trainer(opened.settings, tmp_path / "run", torch.device("cpu"), ProcessGroup())
    load_initial_weights(trainer, opened.seen.network, (10.0, 10.0, 10.0))
    assert (trainer.average.network.state_dict()[name] == 5.0).all()


def test_turns_are_refused_in_pretraining(pretraining: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(pretraining.read_text())
    content["perturbations"] = {"names": ["noise", "flip"]}
    path = tmp_path / "turned.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="remove flip"):
        pretrain(path, tmp_path / "run", device="cpu", progress=False)


def test_a_dry_run_reports_size_and_time_and_writes_nothing(
    configuration: Path, pretraining: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, path, parameters in (("train", configuration, 14_000), ("pretrain", pretraining, 14_000)):
        given = [command, "-c", str(path), "--dry-run", "-o", str(tmp_path / "run"), "--device", "cpu"]
        assert exit_code([*given, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert 0 < found["parameters"] < parameters
        assert found["receptive_context_voxels"] == [10, 10, 10]
        assert found["seconds_per_step"] > 0
        assert found["training_hours"] == pytest.approx(found["steps"] * found["seconds_per_step"] / 3600, abs=0.001)
        assert found["hours"] == pytest.approx(found["training_hours"] + found["validation_hours"], abs=0.001)
        assert (found["steps"], found["device_memory_mib"]) == ({"train": 24, "pretrain": 40}[command], None)
        assert 50 < found["memory_mib"] < 20_000
        assert exit_code(given) == 0
        assert "nothing was written" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
    assert exit_code(["train", "--dry-run"]) == 2
    assert "fib25_light" in capsys.readouterr().err


def test_a_dry_run_finds_missing_test_volumes_and_counts_unread_memory(
    configuration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(configuration.read_text())
    opened = open_training(configuration).training[0]
    assert held_bytes(opened, descriptors=False) == 24 * 40 * 40 * 5
    assert held_bytes(opened, descriptors=True) == 24 * 40 * 40 * 25
    content["data"]["test"] = [{**content["data"]["validation"], "raw": "absent.zarr"}]
    path = tmp_path / "tested.yaml"
    path.write_text(yaml.safe_dump(content))
    assert exit_code(["train", str(path), "--dry-run", "--device", "cpu"]) == 2
    assert "absent.zarr is in none of the folders" in capsys.readouterr().err


def test_the_preview_is_a_picture(configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code(["train", str(configuration), "--preview"]) == 0
    assert (tmp_path / "small-preview.png").read_bytes().startswith(b"\x89PNG")
    assert exit_code(["train", str(configuration), "--preview", "-o", str(tmp_path / "p.png")]) == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert exit_code(["train", str(configuration), "--preview", "-o", str(tmp_path / "p.jpg")]) == 2
