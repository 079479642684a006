"""Values that would fail later are refused before anything runs: exit code 2, and the key is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from neuroseg.cli.main import exit_code
from neuroseg.cli.train import _packaged
from neuroseg.errors import InputError
from neuroseg.networks.architectures import build_network
from neuroseg.training.pretraining_settings import PretrainingSettings
from neuroseg.training.reading import read_settings
from neuroseg.training.settings import TrainingSettings
from neuroseg.training.train import check_windows


def changed(configuration: Path, key: str, value: Any) -> Path:
    """A copy of the configuration with one value, `section.key`, replaced."""
    content = yaml.safe_load(configuration.read_text())
    *sections, last = key.split(".")
    place = content
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    path = configuration.with_name("changed.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("targets.offsets", [], "targets.offsets = []: Tuple should have at least 1 item"),
        ("targets.offsets", [[0, -1, 0], [0, 0, -1]], "targets.offsets cannot be segmented: no affinity channel links "
         "direct neighbours along z; offsets: ((0, -1, 0), (0, 0, -1))"),
        ("targets.auxiliary_offsets", [[0, 0, -3], [0, 24, 0]], "targets.auxiliary_offsets (0, 24, 0) does not fit "
         "into optimiser.patch_voxels (24, 24, 24)"),
        ("targets.auxiliary_offsets", [[0, 22, 0]], "targets.auxiliary_offsets (0, 22, 0) does not fit "
         "into optimiser.patch_voxels (24, 24, 24) minus margin_voxels (2, 2, 2)"),
        ("targets.border_dilations", -1, "targets.border_dilations = -1: Input should be greater than or equal to 0"),
        ("targets.descriptor_sigma_nm", -5, "targets.descriptor_sigma_nm = -5: Input should be greater than or equal"),
        ("targets.descriptor_weight", -1, "targets.descriptor_weight = -1: Input should be greater than or equal to 0"),
        ("targets.auxiliary_weight", -1, "targets.auxiliary_weight = -1: Input should be greater than or equal to 0"),
        ("validation.tile_voxels", [0, 0, 0], "validation.tile_voxels.0 = 0: Input should be greater than 0"),
        ("validation.context_voxels", [8, -8, 8], "validation.context_voxels.1 = -8: Input should be greater than or"),
        ("optimiser.margin_voxels", [2, 12, 2], "optimiser: margin_voxels (2, 12, 2) on each side leave no voxel of "
         "patch_voxels (24, 24, 24)"),
        ("optimiser.patch_voxels", [0, 0, 0], "optimiser.patch_voxels.0 = 0: Input should be greater than 0"),
        ("optimiser.average_decay", 2.0, "optimiser.average_decay = 2.0: Input should be less than or equal to 1"),
        ("optimiser.warm_up_steps", -3, "optimiser.warm_up_steps = -3: Input should be greater than or equal to 0"),
        ("optimiser.learning_rate", 0, "optimiser.learning_rate = 0: Input should be greater than 0"),
        ("optimiser.learning_rate", float("inf"), "optimiser.learning_rate = inf: Input should be a finite number"),
        ("optimiser.epsilon", 0, "optimiser.epsilon = 0: Input should be greater than 0"),
        ("optimiser.weight_decay", -0.1, "optimiser.weight_decay = -0.1: Input should be greater than or equal to 0"),
        ("augmentation.scale_range", [0, 0], "augmentation.scale_range.0 = 0: Input should be greater than 0"),
        ("augmentation.scale_range", [2, 1], "augmentation.scale_range = [2, 1]: the smallest scale must come first"),
        ("augmentation.elastic_spacing_voxels", 0, "augmentation.elastic_spacing_voxels = 0: Input should be greater"),
        ("augmentation.elastic_sigma_voxels", -1, "augmentation.elastic_sigma_voxels = -1: Input should be greater"),
        ("augmentation.rotation_degrees", -1, "augmentation.rotation_degrees = -1: Input should be greater than or"),
        *(
            (f"augmentation.{name}", value, f"augmentation.{name} = {value}: Input should be")
            for name in ("deform", "intensity", "sections", "noise", "blur", "missing") for value in (7, -0.5)
        ),
        ("loader_workers", -1, "loader_workers = -1: Input should be greater than or equal to 0"),
        ("seed", -1, "seed = -1: Input should be greater than or equal to 0"),
        ("data.validation", {"raw": "raw.zarr", "labels": "./raw.zarr"}, "data.validation: raw and labels have the "
         "same address ./raw.zarr; give the address of the labels"),
        ("network.parameters", {"widths": []}, "network.parameters.widths = []: expected the channels of each "
         "level, whole numbers from 1"),
    ],
)  # fmt: skip
def test_a_dry_run_names_values_that_would_fail_later(
    key: str, value: Any, told: str, configuration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(configuration, key, value)
    assert exit_code(["train", str(path), "-o", str(tmp_path / "run"), "--dry-run", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error) < 500


@pytest.mark.parametrize("widths", [[], [0, 4], [4.5, 8], [True, 8], 4, "48", None])
@pytest.mark.parametrize("architecture", ["light", "superhuman", "mala"])
def test_invalid_widths_are_named(architecture: str, widths: Any) -> None:
    with pytest.raises(InputError, match=r"network\.parameters\.widths = .*whole numbers from 1"):
        build_network(architecture, {"widths": widths})


def test_channels_that_cannot_be_normalised_are_an_error_of_the_configuration() -> None:
    with pytest.raises(InputError, match=r"does not accept .*14"):
        build_network("light", {"widths": [14, 8], "norm": "group"})


@pytest.mark.parametrize("flags", [["validate", "--truth"], ["adapt", "--labels"]])
def test_raw_as_its_own_truth_is_refused(
    flags: list[str], raw_volume: str, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, option = flags
    volume = ["--volume", raw_volume] if command == "validate" else [raw_volume]
    command_line = [command, *volume, option, raw_volume, "--model", tiny_model, "-o", str(tmp_path / "out")]
    assert exit_code(command_line) == 2
    assert "have the same address" in capsys.readouterr().err


@pytest.mark.parametrize("name", _packaged())
def test_no_packaged_configuration_is_refused(name: str) -> None:
    if name.startswith("pretraining"):
        read_settings(_packaged()[name], PretrainingSettings)
    else:
        check_windows(read_settings(_packaged()[name], TrainingSettings))


@pytest.mark.parametrize("command", ["pretrain", "train", "train --dry-run", "validate", "adapt"])
@pytest.mark.parametrize("below", ["", "run"])
def test_an_output_that_is_a_file_is_refused(
    command: str, below: str, configuration: Path, raw_volume: str, tiny_model: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    raw, file = str(configuration.parent / "raw.zarr"), tmp_path / "notes.txt"
    file.write_text("mine")
    crops = {"training": [{"raw": raw}], "validation": {"raw": raw}}
    content = {"name": "pre", "data": crops, "optimiser": {"steps": 1, "patch_voxels": [8, 8, 8]}}
    (tmp_path / "pre.yaml").write_text(yaml.safe_dump(content))
    truth = ["--volume", raw, "--truth", str(configuration.parent / "labels.zarr"), "--model", tiny_model]
    given = {"pretrain": [str(tmp_path / "pre.yaml")], "validate": truth, "adapt": [raw_volume, "--model", tiny_model]}
    name, *flags = command.split()
    command_line = [name, *given.get(name, [str(configuration)]), *flags, "-o", str(file / below)]
    assert exit_code(command_line) == 2
    assert f"cannot create the folder {file / below}: {file} is a file" in capsys.readouterr().err
    assert file.read_text() == "mine"
