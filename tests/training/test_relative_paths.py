"""Relative paths in a configuration start at the folder of its file, not at the current folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from neuroseg.cli.main import exit_code
from neuroseg.cli.train import configuration_path
from neuroseg.configuration import load_configuration
from neuroseg.errors import InputError
from neuroseg.training.relative_paths import located
from neuroseg.training.settings import TrainingSettings
from neuroseg.training.train import open_training


@pytest.fixture
def project(configuration: Path, tmp_path: Path) -> Path:
    """A folder with a configuration and its volumes, all paths relative."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("raw", "labels"):
        shutil.copytree(configuration.parent / f"{name}.zarr", folder / f"{name}.zarr")
    write(folder, yaml.safe_load(configuration.read_text()), folders=["data", "."])
    return folder


def write(folder: Path, content: dict[str, object], **data: object) -> None:
    content["data"] |= data  # type: ignore[operator]
    (folder / "mine.yaml").write_text(yaml.safe_dump(content))


def edit_network(folder: Path, **network: str) -> None:
    content = yaml.safe_load((folder / "mine.yaml").read_text())
    content["network"] |= network
    content["targets"] = {}
    write(folder, content)


def test_data_are_relative_to_the_configuration(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cwd, named in (
        (tmp_path, "project/mine.yaml"),
        (project, "mine.yaml"),
        (Path("/"), str(project / "mine.yaml")),
    ):
        monkeypatch.chdir(cwd)
        opened = open_training(Path(named))
        assert Path(opened.training[0].raw.path).resolve() == project / "raw.zarr"
        assert opened.settings.data.folders == ("data", "."), "stored as written"


def test_a_file_next_to_the_configuration_takes_precedence(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("raw", "labels"):
        shutil.copytree(project / f"{name}.zarr", tmp_path / f"{name}.zarr")
    opened = open_training(Path("project/mine.yaml"))
    assert Path(opened.training[0].raw.path).resolve() == project / "raw.zarr"


def test_a_file_only_in_the_current_folder_is_not_used_but_named(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.move(project / "raw.zarr", tmp_path / "raw.zarr")
    with pytest.raises(
        InputError, match=r"raw\.zarr is in none of the folders project/data, project .*; it is in the "
    ):
        open_training(Path("project/mine.yaml"))


def test_encoders_and_bundles_are_relative_to_the_configuration(
    project: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, project / "models" / "tiny")
    edit_network(project, bundle="models/tiny")
    opened = open_training(Path("project/mine.yaml"))
    assert (opened.settings.network.bundle, opened.seen.network.bundle) == ("models/tiny", "project/models/tiny")
    same = open_training(Path("project/mine.yaml"), bundle="project/models/tiny")
    assert same.settings == opened.settings, "--from is seen from the current folder"
    with pytest.raises(InputError, match="remove one of them"):
        open_training(Path("project/mine.yaml"), bundle="models/tiny")
    edit_network(project, bundle="fib25_light")
    assert open_training(Path("project/mine.yaml")).seen.network.bundle == "fib25_light", "the bundled model"


def test_a_training_starts_with_files_next_to_its_configuration(
    project: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, project / "models" / "tiny")
    edit_network(project, bundle="models/tiny")
    content = yaml.safe_load((project / "mine.yaml").read_text())
    content["optimiser"]["steps"] = 1
    write(project, content)
    assert exit_code(["train", "project/mine.yaml", "-o", "runs/mine", "--device", "cpu"]) == 0
    assert (tmp_path / "runs" / "mine" / "bundle" / "card.yaml").is_file()
    stored = yaml.safe_load((tmp_path / "runs" / "mine" / "configuration.yaml").read_text())
    assert stored["network"]["bundle"] == "models/tiny"
    card = (tmp_path / "runs" / "mine" / "bundle" / "card.yaml").read_text()
    assert "neuroseg train project/mine.yaml -o runs/mine --device cpu" in " ".join(card.split())
    assert str(tmp_path) not in card, "no path beyond what was typed"


def test_paths_of_a_packaged_configuration_start_at_the_current_folder() -> None:
    path = configuration_path("seg_cremi_d10_u200")
    settings = load_configuration(path, TrainingSettings)
    assert located(settings, path) == settings
    copied = located(settings, Path("project/mine.yaml"))
    assert copied.network.encoder == "project/runs/pretraining_cremi"
    assert copied.data.folders == tuple(str(Path("project") / folder) for folder in settings.data.folders)
    assert copied.model_copy(update={"data": settings.data, "network": settings.network}) == settings
