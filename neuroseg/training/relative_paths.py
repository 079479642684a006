"""Relative paths of a configuration start at the folder of its file.

For a packaged configuration they start at the current folder. Comparisons, stored configurations and cards use the
paths as written. Only paths that are opened are resolved.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TypeVar

from neuroseg.networks.bundle import bundled_names
from neuroseg.training.pretraining_settings import PretrainingSettings
from neuroseg.training.settings import NetworkSettings, TrainingSettings

Settings = TypeVar("Settings", TrainingSettings, PretrainingSettings)


def located(settings: Settings, configuration: Path) -> Settings:
    """Return the settings with data folders, encoder and bundle relative to the current folder.

    Absolute paths are unchanged. Names of bundled models are unchanged, unless a folder of that name is next to the
    configuration.
    """
    folder = base_folder(configuration)
    if folder == Path():
        return settings
    data = settings.data.model_copy(update={"folders": tuple(str(folder / each) for each in settings.data.folders)})
    return settings.model_copy(update={"data": data, "network": _located(settings.network, folder)})


def base_folder(configuration: Path) -> Path:
    """Return the folder at which relative paths of a configuration start."""
    packaged = Path(str(resources.files("neuroseg.configs")))
    is_packaged = configuration.parent.resolve() == packaged.resolve()
    return Path() if is_packaged else configuration.parent


def _located(network: NetworkSettings, folder: Path) -> NetworkSettings:
    encoder, bundle = network.encoder, network.bundle
    if encoder is not None:
        encoder = str(folder / encoder)
    if bundle is not None and (bundle not in bundled_names() or (folder / bundle).exists()):
        bundle = str(folder / bundle)
    return network.model_copy(update={"encoder": encoder, "bundle": bundle})
