"""The folder of a training. Each folder belongs to one configuration."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from neuroseg.configuration import Section
from neuroseg.errors import RunRefusedError
from neuroseg.networks.encoder import ENCODER
from neuroseg.storage.publish import publish_text

_FILES = ("checkpoint.pt", "best.yaml", "log.csv", "beginning.yaml", ENCODER)
_FOLDERS = ("bundle", "tensorboard")


def prepare_folder(folder: Path, settings: Section, restart: bool) -> None:
    """Prepare a folder for a configuration, or check that it belongs to it. Empty it if `restart` is set.

    Raises RunRefusedError if the folder belongs to another configuration, or if its configuration is missing.
    """
    path = folder / "configuration.yaml"
    text = yaml.safe_dump(settings.model_dump(mode="json", exclude={"data": {"folders"}}), sort_keys=False)
    if path.exists() and not restart:
        if not _matches(path, settings):
            raise RunRefusedError(
                f"{folder} contains a training of another configuration, see {path}",
                hint="choose another folder with -o, or replace that training with --restart. If it began with --from, "
                "give the same --from",
            )
        return
    found = [name for name in (*_FILES, *_FOLDERS) if (folder / name).exists()]
    if found and not path.exists():
        raise RunRefusedError(
            f"{folder} contains {', '.join(found)} of an unknown training ({path.name} is missing)",
            hint="choose another folder with -o",
        )
    for stale in _FILES:
        (folder / stale).unlink(missing_ok=True)
    for stale in _FOLDERS:
        shutil.rmtree(folder / stale, ignore_errors=True)
    publish_text(path, text)


def _matches(path: Path, settings: Section) -> bool:
    """Return whether a stored configuration equals these settings. Missing keys have their defaults."""
    try:
        stored = type(settings).model_validate(yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, ValueError):
        return False
    one, other = (each.model_dump(mode="json", exclude={"data": {"folders"}}) for each in (stored, settings))
    return one == other
