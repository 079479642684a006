"""Bundles on disk: a folder with `weights.safetensors` and `card.yaml`, from the package or from the user."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from neuroseg.configuration import read_yaml, validated
from neuroseg.errors import InputError, unknown_name
from neuroseg.networks.card import Card
from neuroseg.networks.windows import WindowRule, checked_margin
from neuroseg.storage.publish import publish_text, published

if TYPE_CHECKING:
    import torch
    from torch import nn

WEIGHTS, CARD = "weights.safetensors", "card.yaml"
_MOST_NAMED = 3


@dataclass(frozen=True)
class Bundle:
    """A model: its card, the folder with its weights, and the hash of both."""

    card: Card
    path: Path

    def on(self, device: str) -> Bundle:
        """Return the model as it predicts on `cpu` or a GPU: its `tile`, also in its hash, is the one used there."""
        if device == "cpu" or self.card.gpu_tile is None:
            return self
        return replace(self, card=self.card.model_copy(update={"tile": self.card.gpu_tile, "gpu_tile": None}))

    @property
    def sha256(self) -> str:
        """Identity of the model: hash of its weights and of network, offsets, raw scale and tile in its card.

        Use `on` first: `gpu_tile` does not change results on CPUs, so it does not belong to their identity.
        """
        digest = hashlib.sha256((self.path / WEIGHTS).read_bytes())
        identity = self.card.model_dump(include={"network", "offsets", "raw_scale", "tile"})
        digest.update(repr(identity).encode())
        return digest.hexdigest()

    def check(self, blend: str | None = None) -> None:
        """Raise InputError unless the network accepts both tiles and the blend, and the weights fit the network.

        Call this before a run begins: otherwise prediction of every block would fail.
        """
        import torch

        from neuroseg.networks.architectures import build_network

        card = self.card
        try:
            with torch.device("meta"):
                network = build_network(card.network.architecture, card.network.parameters)
            assert isinstance(network.windows, WindowRule)
            _check_tiles(card, network.windows, blend)
        except InputError as error:
            raise InputError(f"{self.path / CARD}: {error.args[0]}", hint=error.hint) from error
        wanted = network.state_dict()
        outputs = len(wanted["head.weight"])
        if outputs < len(card.offsets):
            raise InputError(
                f"{self.path / CARD}: {len(card.offsets)} offsets, but the network has {outputs} outputs",
                hint="set network.parameters.outputs to the number of offsets or more",
            )
        _check_weights(self.path / WEIGHTS, wanted)

    @property
    def windows(self) -> WindowRule:
        """The window sizes that the network accepts."""
        import torch

        from neuroseg.networks.architectures import build_network

        with torch.device("meta"):
            network = build_network(self.card.network.architecture, self.card.network.parameters)
        assert isinstance(network.windows, WindowRule)
        return network.windows

    def network(self) -> nn.Module:
        """Return the network with its weights, in evaluation mode. Raises InputError if they do not fit."""
        from safetensors.torch import load_file

        from neuroseg.networks.architectures import build_network

        self.check()
        network = build_network(self.card.network.architecture, self.card.network.parameters)
        network.load_state_dict(load_file(self.path / WEIGHTS))
        return network.eval()


def _check_tiles(card: Card, rule: WindowRule, blend: str | None) -> None:
    """Raise InputError unless a network accepts the tiles of a card."""
    for name, tile in (("tile", card.tile), ("gpu_tile", card.gpu_tile)):
        if tile is None:
            continue
        try:
            checked_margin(rule, tile.output_voxels, tile.context_voxels, blend or tile.blend)
        except InputError as error:
            raise InputError(f"{name}: {error.args[0]}", hint=error.hint) from error


def _check_weights(path: Path, wanted: Mapping[str, torch.Tensor]) -> None:
    """Raise InputError unless a file contains exactly the wanted tensors, of the same kind and with finite values."""
    import torch
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"cannot read the weights {path}: {reason}", hint="copy the bundle again") from error
    differing = sorted(name for name in wanted.keys() | found.keys() if _kind(wanted, name) != _kind(found, name))
    if differing:
        name = differing[0]
        raise InputError(
            f"the weights {path} do not fit its {CARD}: {name} is {_kind(found, name)}, the network expects "
            f"{_kind(wanted, name)} ({len(differing)} of {len(wanted)} tensors differ)"
        )
    for name, tensor in found.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"the weights {path} contain NaN or infinite values in {name}")


def _kind(tensors: Mapping[str, torch.Tensor], name: str) -> str:
    """Return the shape and number type of a tensor as text."""
    if name not in tensors:
        return "missing"
    tensor = tensors[name]
    return f"{tuple(tensor.shape)} of {'floating-point' if tensor.is_floating_point() else 'whole'} numbers"


def bundled_names() -> list[str]:
    """Return the names of the bundled models, sorted."""
    return sorted(path.name for path in _bundles_folder().iterdir() if (path / CARD).is_file())


def default_model() -> str:
    """Return the name of the bundled model that runs use without --model. Raises InputError if there is none."""
    names = bundled_names()
    if not names:
        raise InputError("this installation contains no model", hint="pass one with --model PATH")
    return names[0]


def open_bundle(name_or_path: str) -> Bundle:
    """Return the bundle for a bundled model's name, a folder, or a file in a bundle's folder.

    Raises InputError for an invalid card. If there is no bundle, the error describes the content of the folder.
    """
    folder = bundle_folder(name_or_path)
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder} has a {CARD} but no {WEIGHTS}", hint="copy the whole bundle")
    return Bundle(validated(read_yaml(folder / CARD), Card, str(folder / CARD)), folder)


def bundle_folder(name_or_path: str) -> Path:
    """Return the folder of a bundle. An existing folder takes precedence over the bundled model of the same name."""
    given = Path(name_or_path)
    folder = given.parent if given.name in (WEIGHTS, CARD) and given.is_file() else given
    if (folder / CARD).is_file():
        return folder
    if name_or_path in bundled_names():
        return _bundles_folder() / name_or_path
    raise _no_bundle(given, name_or_path)


def _no_bundle(given: Path, named: str) -> InputError:
    """Return the error for a path without a bundle: the content found, and a suggestion."""
    names = ", ".join(bundled_names())
    if given.is_file():
        if given.name == WEIGHTS or _is_training(given.parent):
            return _no_bundle(given.parent, str(given.parent))
        return InputError(
            f"{given} is a file, not a model; expected a bundle's folder or a bundled model ({names})",
            hint=f"convert a checkpoint of the published research code: neuroseg models convert {given} -o FOLDER",
        )
    if not given.is_dir():
        if os.sep not in named:
            return unknown_name("model", named, bundled_names())
        return InputError(
            f"no model bundle at {named}: the path does not exist",
            hint=f"use a folder with {CARD} and {WEIGHTS}, or a bundled model ({names})",
        )
    inside = sorted(path.parent for path in given.glob(f"*/{CARD}"))
    if inside:
        found = " or ".join(map(str, inside[:_MOST_NAMED]))
        return InputError(f"no model bundle at {named}, but in a folder inside it", hint=f"use --model {found}")
    if _is_training(given):
        return InputError(
            f"no model bundle at {named}: this training has not been validated yet",
            hint=f"continue it with neuroseg train, which writes {given / 'bundle'}",
        )
    if (given / "encoder.safetensors").is_file():
        return InputError(
            f"no model bundle at {named}: the folder contains a pre-trained encoder, which cannot segment",
            hint="set network.encoder to this folder in the configuration of neuroseg train",
        )
    lacking = CARD if (given / WEIGHTS).is_file() else f"{CARD} and {WEIGHTS}"
    return InputError(f"no model bundle at {named}: the folder lacks {lacking} (bundled models: {names})")


def _is_training(folder: Path) -> bool:
    """Return whether a folder contains a training. A pre-training has an encoder next to its checkpoint."""
    has = {name: (folder / name).is_file() for name in ("checkpoint.pt", "configuration.yaml", "encoder.safetensors")}
    return (has["checkpoint.pt"] or has["configuration.yaml"]) and not has["encoder.safetensors"]


def save_bundle(folder: Path, card: Card, weights: Mapping[str, torch.Tensor]) -> None:
    """Write a bundle. An existing bundle is deleted only after the new one is complete and in place."""
    from safetensors.torch import save

    # save_file would create files that only their owner can read.
    _write(folder, card, save({name: tensor.contiguous().cpu() for name, tensor in weights.items()}))


def save_copy(folder: Path, card: Card, bundle: Bundle) -> None:
    """Write a bundle with another card and the same bytes of weights, which belong to the identity of the model."""
    _write(folder, card, (bundle.path / WEIGHTS).read_bytes())


def _write(folder: Path, card: Card, weights: bytes) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        new, old = Path(scratch) / "bundle", Path(scratch) / "former"
        with published(new / WEIGHTS) as aside:
            aside.write_bytes(weights)
        text = yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False, width=120, default_flow_style=None)
        publish_text(new / CARD, text)
        try:
            if folder.exists():
                os.replace(folder, old)
            os.replace(new, folder)
        except BaseException:
            # Ctrl-C can arrive between the two calls, and the scratch folder is deleted: restore the old bundle.
            if old.exists() and not folder.exists():
                os.replace(old, folder)
            raise


def _bundles_folder() -> Path:
    return Path(str(resources.files("neuroseg.networks.bundles")))
