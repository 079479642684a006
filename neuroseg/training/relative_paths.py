"""Where the relative paths of a configuration begin: in the folder of its file.

A packaged configuration lies in nobody's folder: its paths are seen from the current one. A configuration is compared,
stored and put on cards as it was written; only what is opened is located.
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
    """Return settings whose data folders, encoder and bundle are seen from the current folder.

    Absolute paths stay, and names of bundled models, unless a folder of that name lies beside the configuration.
    """
    folder = base_folder(configuration)
    if folder == Path():
        return settings
    data = settings.data.model_copy(update={"folders": tuple(str(folder / each) for each in settings.data.folders)})
    return settings.model_copy(update={"data": data, "network": _located(settings.network, folder)})


def base_folder(configuration: Path) -> Path:
    """Return the folder from which the paths in a configuration are seen."""
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
