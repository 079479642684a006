"""`neuroseg validate`: one prediction, both published segmentation methods, scores and pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import pytest
import yaml
import zarr
from funlib.geometry import Roi
from safetensors.torch import load_file, save_file

from neuroseg.checks.validate import whole_sections
from neuroseg.cli.main import exit_code
from neuroseg.networks.bundle import open_bundle, save_bundle
from neuroseg.networks.card import TrainingCard


def judged_on(configuration: Path, folder: Path, *regions: str) -> Path:
    """A copy of the configuration that is scored on regions of its volume."""
    content = yaml.safe_load(configuration.read_text())
    content["data"]["test"] = [{**content["data"]["validation"], "region": region} for region in regions]
    path = folder / "judged.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def judged(configuration: Path, tmp_path: Path) -> Path:
    return judged_on(configuration, tmp_path, "0:12,:,:")


def test_both_methods_are_scored_and_the_command_resumes(
    configuration: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged, folder = judged_on(configuration, tmp_path, "0:12,:,:", "12:24,:,:"), tmp_path / "validation"
    command = ["validate", str(judged), "--model", tiny_model, "-o", str(folder), "--executor", "serial", "--json"]
    assert exit_code(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert json.loads((folder / "results.json").read_text()) == found
    assert (found["configuration"], found["seed"], len(found["sha256"])) == ("judged", 1, 64)
    assert found["settings"]["optimiser"]["steps"] == 24
    assert [row["blocks"] for row in found["volumes"]] == [[64, 64, 64]] * 2
    assert [row["roi"] for row in found["volumes"]] == ["0:12,0:40,0:40", "12:24,0:40,0:40"]
    for way in ("waterz", "lmc"):
        sums = [row["scores"][way]["voi_sum"] for row in found["volumes"]]
        assert found["mean"][way]["voi_sum"] == pytest.approx(sum(sums) / 2)
        assert all(row["scores"][way]["threshold"] == 0.5 for row in found["volumes"])
    assert len(found["volumes"][0]["scores"]["waterz"]["sweep"]) == 49
    for number in "01":
        assert (folder / number / "segmentations.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / number / "waterz.png").exists()
    assert exit_code(command[:-1]) == 0
    told = capsys.readouterr().out
    assert told.count("lmc") == 3
    assert "mean" in told


def test_another_model_requires_restart(
    judged: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A repeated training: the same folder with other weights."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    command = ["validate", str(judged), "--model", str(model), "-o", str(tmp_path / "v"), "--executor", "serial"]
    assert exit_code(command) == 0
    weights = load_file(model / "weights.safetensors")
    # A variance that is not positive would give only NaN.
    others = {name: tensor if name.endswith("running_var") else -tensor for name, tensor in weights.items()}
    save_file(others, model / "weights.safetensors")
    assert exit_code(command) == 2
    assert "--restart" in capsys.readouterr().err
    assert exit_code([*command, "--restart"]) == 0


def test_missing_inputs_are_named(
    configuration: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["validate", str(configuration), "--model", tiny_model, "-o", str(tmp_path / "v")]
    assert exit_code(command) == 2
    assert "names no data.test" in capsys.readouterr().err
    assert exit_code([*command, "--on", "train"]) == 2
    assert exit_code(["validate", str(configuration)]) == 2
    assert "no model bundle" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("roi", "blocks"),
    [
        (Roi((0, 0, 256), (30, 512, 64)), (64, 512, 320)),
        (Roi((206, 0, 0), (50, 1024, 1024)), (16, 1024, 1024)),
        (Roi((1000, 7500, 3200), (300, 2000, 2000)), (4, 9536, 5248)),
        (Roi((0, 0, 0), (9, 8000, 8000)), (1, 8000, 8000)),
        (Roi((0, 0, 0), (9, 9000, 9000)), None),
    ],
)
def test_blocks_contain_whole_sections(roi: Roi, blocks: tuple[int, int, int] | None) -> None:
    assert whole_sections(roi) == blocks


def test_blocks_that_cut_sections_give_a_warning(
    judged: Path, tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    command = ["validate", str(judged), "--model", tiny_model, "-o", str(tmp_path / "v"), "--executor", "serial"]
    assert exit_code(command) == 0
    assert "cuts fragments" not in caplog.text
    assert exit_code([*command, "--blocks", "8,40,40", "-o", str(tmp_path / "thin")]) == 0
    assert "cuts fragments" not in caplog.text, "cut between sections, which fragments do not cross"
    assert exit_code([*command, "--blocks", "32", "-o", str(tmp_path / "cut")]) == 0
    assert "cuts fragments" in caplog.text
    whole, thin = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("v", "thin"))
    assert whole["mean"] == thin["mean"]


def test_a_model_is_scored_on_any_volume_with_truth(
    configuration: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, truth = f"{tmp_path}/v.h5:raw", f"{tmp_path}/v.h5:ids"
    with h5py.File(tmp_path / "v.h5", "w") as file:  # without a voxel size
        for name, source in (("raw", "raw"), ("ids", "labels")):
            file[name] = zarr.open_array(str(configuration.parent / f"{source}.zarr"), mode="r")[:]
    command = ["validate", "--model", tiny_model, "--volume", raw, "--executor", "serial", "-o", str(tmp_path / "v")]
    command += ["--voxel-size", "10", "10", "10"]
    assert exit_code([*command, "--truth", truth, "--roi", "0:12,3:35,5:40", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["configuration"], found["settings"], found["seed"], found["on"]) == (None, None, None, "volume")
    assert [row["roi"] for row in found["volumes"]] == ["0:12,3:35,5:40"]
    assert exit_code(command) == 2
    assert "--volume needs --truth" in capsys.readouterr().err
    assert exit_code([*command, "--truth", truth, "--on", "test"]) == 2
    assert "leave out --on or --volume" in capsys.readouterr().err
    assert exit_code(["validate", str(configuration), "--model", tiny_model, "--truth", truth]) == 2
    assert "belong to a --volume" in capsys.readouterr().err
    assert exit_code(["validate", "--volume", raw, "--truth", truth]) == 2
    assert "hint: use --model" in capsys.readouterr().err


def test_without_a_configuration_the_card_names_the_training(
    configuration: Path, tiny_model: str, tmp_path: Path
) -> None:
    plain, folder = open_bundle(tiny_model), configuration.parent
    card = plain.card.model_copy(update={"training": TrainingCard(configuration="mine", seed=555)})
    save_bundle(tmp_path / "m", card, plain.network().state_dict())
    command = ["validate", "--model", str(tmp_path / "m"), "--volume", f"{folder}/raw.zarr", "--roi", "0:12,:,:"]
    command += ["--truth", f"{folder}/labels.zarr", "--executor", "serial", "-o", str(tmp_path / "v")]
    assert exit_code(command) == 0
    found = json.loads((tmp_path / "v" / "results.json").read_text())
    assert (found["configuration"], found["settings"], found["seed"]) == ("mine", None, 555)
