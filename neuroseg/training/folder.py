"""The folder of a training: it belongs to one configuration."""

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
    """Make the folder this configuration's; raises RunRefusedError when it is another's, or nobody's."""
    path = folder / "configuration.yaml"
    text = yaml.safe_dump(settings.model_dump(mode="json", exclude={"data": {"folders"}}), sort_keys=False)
    if path.exists() and not restart:
        if not _says(path, settings):
            raise RunRefusedError(
                f"{folder} holds a training of another configuration (see {path}, its network.bundle is what --from "
                "names); choose another folder with -o, or --restart to begin again"
            )
        return
    found = [name for name in (*_FILES, *_FOLDERS) if (folder / name).exists()]
    if found and not path.exists():
        raise RunRefusedError(
            f"{folder} has {', '.join(found)} of nobody knows which training ({path.name} is missing); "
            "choose another folder with -o"
        )
    for stale in _FILES:
        (folder / stale).unlink(missing_ok=True)
    for stale in _FOLDERS:
        shutil.rmtree(folder / stale, ignore_errors=True)
    publish_text(path, text)


def _says(path: Path, settings: Section) -> bool:
    """Return whether a stored configuration means these settings; what an older one does not say has its default."""
    try:
        stored = type(settings).model_validate(yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, ValueError):
        return False
    one, other = (each.model_dump(mode="json", exclude={"data": {"folders"}}) for each in (stored, settings))
    return one == other
