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

from neuroseg.configuration import read_yaml, validated
from neuroseg.errors import InputError, unknown_name
from neuroseg.networks.card import Card
from neuroseg.storage.publish import publish_text, published

if TYPE_CHECKING:
    import torch
    from torch import nn

WEIGHTS, CARD = "weights.safetensors", "card.yaml"
_MOST_NAMED = 3


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

    def check(self, blend: str | None = None) -> None:
        """Raise InputError unless the card's network takes its tiles, blended as said, and the weights are its own.

        What no block could be predicted with is found here, before a run begins.
        """
        import torch

        from neuroseg.networks.architectures import build_network
        from neuroseg.networks.windows import WindowRule, checked_margin

        card, tile = self.card, self.card.tile
        try:
            with torch.device("meta"):
                network = build_network(card.network.architecture, card.network.parameters)
            assert isinstance(network.windows, WindowRule)
            checked_margin(network.windows, tile.output_voxels, tile.context_voxels, blend or tile.blend)
        except InputError as error:
            raise InputError(f"{self.path / CARD}: {error}") from error
        wanted = network.state_dict()
        outputs = len(wanted["head.weight"])
        if outputs < len(card.offsets):
            raise InputError(
                f"{self.path / CARD}: offsets are {len(card.offsets)}, the network has {outputs} outputs; one for each "
                "offset is expected (network.parameters.outputs)"
            )
        _check_weights(self.path / WEIGHTS, wanted)

    def network(self) -> nn.Module:
        """Return the network with its weights, in evaluation mode; raises InputError when they do not fit."""
        from safetensors.torch import load_file

        from neuroseg.networks.architectures import build_network

        self.check()
        network = build_network(self.card.network.architecture, self.card.network.parameters)
        network.load_state_dict(load_file(self.path / WEIGHTS))
        return network.eval()


def _check_weights(path: Path, wanted: Mapping[str, torch.Tensor]) -> None:
    """Raise InputError unless a file holds the wanted tensors, floating where they are, and all of them numbers."""
    import torch
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"the weights {path} cannot be read ({reason}); copy the bundle again") from error
    differing = sorted(name for name in wanted.keys() | found.keys() if _kind(wanted, name) != _kind(found, name))
    if differing:
        name = differing[0]
        raise InputError(
            f"the weights {path} do not fit its {CARD}: {name} is {_kind(found, name)}, the network expects "
            f"{_kind(wanted, name)} ({len(differing)} of {len(wanted)} differ)"
        )
    for name, tensor in found.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"the weights {path} are not all numbers: {name} has NaN or infinite values")


def _kind(tensors: Mapping[str, torch.Tensor], name: str) -> str:
    """Return shape and kind of numbers of a tensor as text."""
    if name not in tensors:
        return "missing"
    tensor = tensors[name]
    return f"{tuple(tensor.shape)} of {'floating-point' if tensor.is_floating_point() else 'whole'} numbers"


def bundled_names() -> list[str]:
    """Return the names of the models that ship with the package."""
    return sorted(path.name for path in _bundles_folder().iterdir() if (path / CARD).is_file())


def open_bundle(name_or_path: str) -> Bundle:
    """Return the bundle of a shipped model's name, of a folder, or of a file within one.

    Raises InputError for a card that no run could use, and where there is no bundle, with what is there instead.
    """
    folder = bundle_folder(name_or_path)
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder} has a {CARD} but no {WEIGHTS}; copy the whole bundle")
    return Bundle(validated(read_yaml(folder / CARD), Card, str(folder / CARD)), folder)


def bundle_folder(name_or_path: str) -> Path:
    """Return the folder of a bundle; a folder here comes before the shipped model of the same name."""
    given = Path(name_or_path)
    folder = given.parent if given.name in (WEIGHTS, CARD) and given.is_file() else given
    if (folder / CARD).is_file():
        return folder
    if name_or_path in bundled_names():
        return _bundles_folder() / name_or_path
    raise _no_bundle(given, name_or_path)


def _no_bundle(given: Path, named: str) -> InputError:
    """Return the error for a place without a bundle: what is there, and which model may be meant."""
    names = ", ".join(bundled_names())
    if given.is_file():
        if given.name == WEIGHTS or _is_training(given.parent):
            return _no_bundle(given.parent, str(given.parent))
        return InputError(
            f"{given} is a file, not a model: a bundle's folder or a bundled name ({names}) is expected; for a "
            f"checkpoint of the published research code: neuroseg models convert {given} -o FOLDER"
        )
    if not given.is_dir():
        if os.sep not in named:
            return unknown_name("model", named, bundled_names())
        return InputError(
            f"no model bundle at {named}: nothing is there; give a folder with {CARD} and {WEIGHTS}, or a bundled "
            f"model ({names})"
        )
    inside = sorted(path.parent for path in given.glob(f"*/{CARD}"))
    if inside:
        found = " or ".join(map(str, inside[:_MOST_NAMED]))
        return InputError(f"no model bundle at {named}, but in a folder inside: give --model {found}")
    if _is_training(given):
        return InputError(
            f"no model bundle at {named}: this training has not been validated yet; continue it with neuroseg train, "
            f"which leaves {given / 'bundle'}"
        )
    if (given / "encoder.safetensors").is_file():
        return InputError(
            f"no model bundle at {named}: a pre-training's encoder segments nothing; name the folder as "
            "network.encoder in the configuration of neuroseg train"
        )
    lacking = CARD if (given / WEIGHTS).is_file() else f"{CARD} and {WEIGHTS}"
    return InputError(f"no model bundle at {named}: the folder lacks {lacking}; bundled models: {names}")


def _is_training(folder: Path) -> bool:
    """Return whether neuroseg train has begun in a folder; a pre-training leaves an encoder beside its checkpoint."""
    has = {name: (folder / name).is_file() for name in ("checkpoint.pt", "configuration.yaml", "encoder.safetensors")}
    return (has["checkpoint.pt"] or has["configuration.yaml"]) and not has["encoder.safetensors"]


def save_bundle(folder: Path, card: Card, weights: Mapping[str, torch.Tensor]) -> None:
    """Write a bundle; a former one is put aside, and deleted only when the new one, written whole, has its place."""
    from safetensors.torch import save

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        made, former = Path(scratch) / "bundle", Path(scratch) / "former"
        with published(made / WEIGHTS) as aside:
            # Not save_file, which makes files that only their owner may read.
            aside.write_bytes(save({name: tensor.contiguous().cpu() for name, tensor in weights.items()}))
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
