"""The folder of a training belongs to one configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from neuroseg.cli.train import configuration_path
from neuroseg.configuration import load_configuration
from neuroseg.errors import RunRefusedError
from neuroseg.training.folder import prepare_folder
from neuroseg.training.settings import TrainingSettings

STORED = "configuration.yaml"


@pytest.fixture
def settings() -> TrainingSettings:
    return load_configuration(configuration_path("fib25_d5_u"), TrainingSettings)


def test_keys_missing_in_an_old_configuration_have_their_default(settings: TrainingSettings, tmp_path: Path) -> None:
    prepare_folder(tmp_path, settings, restart=False)
    content = yaml.safe_load((tmp_path / STORED).read_text())
    del content["optimiser"]["precision"]
    (tmp_path / STORED).write_text(yaml.safe_dump(content))
    prepare_folder(tmp_path, settings, restart=False)
    other = settings.model_copy(update={"optimiser": settings.optimiser.model_copy(update={"precision": "float32"})})
    with pytest.raises(RunRefusedError, match="another configuration"):
        prepare_folder(tmp_path, other, restart=False)


def test_data_folders_do_not_identify_a_training(settings: TrainingSettings, tmp_path: Path) -> None:
    prepare_folder(tmp_path, settings, restart=False)
    prepare_folder(
        tmp_path,
        settings.model_copy(update={"data": settings.data.model_copy(update={"folders": ("/elsewhere",)})}),
        restart=False,
    )


@pytest.mark.parametrize("content", ["", "- 1\n", "{name: [", "name: other\nunknown: 1\n"])
def test_an_invalid_stored_configuration_is_another_training(
    content: str, settings: TrainingSettings, tmp_path: Path
) -> None:
    (tmp_path / STORED).write_text(content)
    with pytest.raises(RunRefusedError, match="another configuration"):
        prepare_folder(tmp_path, settings, restart=False)


def test_a_checkpoint_without_configuration_is_refused(settings: TrainingSettings, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(RunRefusedError, match="unknown training"):
        prepare_folder(tmp_path, settings, restart=False)
    assert (tmp_path / "checkpoint.pt").exists()
