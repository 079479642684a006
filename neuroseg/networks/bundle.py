"""Bundles on disk: a folder with `weights.safetensors` and `card.yaml`, shipped with the package or a user's own."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from neuroseg.configuration import load_configuration
from neuroseg.errors import InputError, unknown_name
from neuroseg.networks.card import Card
from neuroseg.storage.publish import publish_text, published

if TYPE_CHECKING:
    import torch
    from torch import nn

WEIGHTS, CARD = "weights.safetensors", "card.yaml"


@dataclass(frozen=True)
class Bundle:
    """A model's card, the file of its weights and the hash of both."""

    card: Card
    path: Path

    @property
    def sha256(self) -> str:
        """The identity of the model: the hash of its weights and of what its card says of the network and tiles."""
        digest = hashlib.sha256((self.path / WEIGHTS).read_bytes())
        identity = self.card.model_dump(include={"network", "offsets", "raw_scale", "tile"})
        digest.update(repr(identity).encode())
        return digest.hexdigest()

    def check(self) -> None:
        """Raise InputError unless the weights fit the network; reads only their names and shapes."""
        import torch
        from safetensors import safe_open

        from neuroseg.networks.architectures import build_network

        with torch.device("meta"):
            network = build_network(self.card.network.architecture, self.card.network.parameters)
        wanted = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
        try:
            with safe_open(self.path / WEIGHTS, "pt") as file:
                found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        except Exception as error:
            raise InputError(f"the weights in {self.path} cannot be read: {error}") from error
        differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        if differing:
            name = differing[0]
            raise InputError(
                f"the weights in {self.path} do not fit its card: {name} has shape {found.get(name)}, the network "
                f"wants {wanted.get(name)} ({len(differing)} differ)"
            )

    def network(self) -> nn.Module:
        """Return the network with its weights, in evaluation mode; raises InputError when they do not fit."""
        from safetensors.torch import load_file

        from neuroseg.networks.architectures import build_network

        network = build_network(self.card.network.architecture, self.card.network.parameters)
        try:
            network.load_state_dict(load_file(self.path / WEIGHTS))
        except Exception as error:
            raise InputError(f"the weights in {self.path} do not fit its card: {error}") from error
        return network.eval()


def bundled_names() -> list[str]:
    """Return the names of the models that ship with the package."""
    return sorted(path.name for path in _bundles_folder().iterdir() if (path / CARD).is_file())


def open_bundle(name_or_path: str) -> Bundle:
    """Return the bundle of a shipped model's name or of a folder; raises InputError naming the close names."""
    folder = Path(name_or_path)
    if not (folder / CARD).is_file():
        folder = _bundles_folder() / name_or_path
    if os.sep in name_or_path and not (folder / CARD).is_file():
        raise InputError(f"no model bundle at {name_or_path}: a folder with {CARD} and {WEIGHTS} is expected")
    if not (folder / CARD).is_file():
        raise unknown_name("model", name_or_path, bundled_names())
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder} has a {CARD} but no {WEIGHTS}")
    return Bundle(load_configuration(folder / CARD, Card), folder)


def save_bundle(folder: Path, card: Card, weights: Mapping[str, torch.Tensor]) -> None:
    """Write a bundle; a former one is put aside, and deleted only when the new one, written whole, has its place."""
    from safetensors.torch import save_file

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        made, former = Path(scratch) / "bundle", Path(scratch) / "former"
        with published(made / WEIGHTS) as aside:
            save_file({name: tensor.contiguous().cpu() for name, tensor in weights.items()}, aside)
        text = yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False, width=120, default_flow_style=None)
        publish_text(made / CARD, text)
        try:
            if folder.exists():
                os.replace(folder, former)
            os.replace(made, folder)
        except BaseException:
            # Ctrl-C may fall between the two; what lies in the scratch folder is deleted.
            if former.exists() and not folder.exists():
                os.replace(former, folder)
            raise


def _bundles_folder() -> Path:
    return Path(str(resources.files("neuroseg.networks.bundles")))
