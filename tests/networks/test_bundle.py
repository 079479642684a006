"""Bundles survive a round trip. Damaged bundles give a clear error."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from neuroseg.cli.train import configuration_path
from neuroseg.errors import InputError
from neuroseg.networks.architectures import build_network
from neuroseg.networks.bundle import bundled_names, open_bundle, save_bundle
from neuroseg.networks.encoder import save_encoder


def test_a_saved_bundle_gives_the_outputs_of_what_was_saved(tiny_model: str, tmp_path: Path) -> None:
    card, raw = open_bundle(tiny_model).card, torch.rand(1, 1, 8, 8, 8)
    network = build_network(card.network.architecture, card.network.parameters)
    with torch.inference_mode():
        network(torch.rand(2, 1, 8, 8, 8))  # updates the statistics
        expected = network.eval()(raw)
        save_bundle(tmp_path / "saved", card, network.state_dict())
        found = open_bundle(str(tmp_path / "saved")).network()(raw)
    assert torch.equal(found, expected)
    assert found.std() > 0


def test_the_hash_follows_the_weights(tiny_model: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    assert open_bundle(str(copy)).sha256 == open_bundle(tiny_model).sha256
    weights = bytearray((copy / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(bytes(weights))
    assert open_bundle(str(copy)).sha256 != open_bundle(tiny_model).sha256


def test_an_unknown_key_in_the_card_is_named(tiny_model: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    card = copy / "card.yaml"
    card.write_text(card.read_text().replace("offsets:", "ofsets:"))
    with pytest.raises(InputError, match=r"ofsets.*did you mean offsets"):
        open_bundle(str(copy))


def test_weights_of_another_network_are_refused(tiny_model: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    card = copy / "card.yaml"
    card.write_text(card.read_text().replace("widths: [4, 8]", "widths: [4, 16]"))
    with pytest.raises(InputError, match="do not fit"):
        open_bundle(str(copy)).network()


def test_an_unknown_model_lists_the_bundled_ones() -> None:
    with pytest.raises(InputError, match="fib25_light"):
        open_bundle("fib25_lihgt")


def told(name_or_path: object) -> str:
    with pytest.raises(InputError) as failed:
        open_bundle(str(name_or_path))
    return str(failed.value)


def test_a_path_without_a_bundle_is_described(tiny_model: str, tmp_path: Path) -> None:
    empty, training, pretraining = (tmp_path / name for name in ("empty", "mine", "pre"))
    for folder in (empty, training, pretraining):
        folder.mkdir()
    assert "the folder lacks card.yaml and weights.safetensors (bundled models: fib25_light" in told(empty)
    assert "the path does not exist" in told(tmp_path / "nowhere")
    assert "fib25_light" in told(tmp_path / "nowhere")
    (training / "checkpoint.pt").touch()
    for place in (training, training / "checkpoint.pt"):
        assert "has not been validated yet\nhint: continue it with neuroseg train" in told(place)
    shutil.copytree(tiny_model, training / "bundle")
    for place in (training, training / "checkpoint.pt"):
        assert f"hint: use --model {training / 'bundle'}" in told(place)
    for name in ("checkpoint.pt", "encoder.safetensors"):
        (pretraining / name).touch()
    assert "network.encoder" in told(pretraining)
    (tmp_path / "paper.ckpt").touch()
    assert f"neuroseg models convert {tmp_path / 'paper.ckpt'}" in told(tmp_path / "paper.ckpt")
    shutil.copy(Path(tiny_model) / "weights.safetensors", empty)
    assert "the folder lacks card.yaml (" in told(empty)
    assert "the folder lacks card.yaml (" in told(empty / "weights.safetensors")


def test_a_file_of_a_bundle_means_the_bundle(tiny_model: str) -> None:
    for name in ("weights.safetensors", "card.yaml"):
        assert open_bundle(f"{tiny_model}/{name}").path == Path(tiny_model)
        assert open_bundle(f"{tiny_model}/{name}").sha256 == open_bundle(tiny_model).sha256


def test_bundled_models_fit_in_the_package() -> None:
    folders = [open_bundle(name).path for name in bundled_names()]
    assert folders
    assert sum(file.stat().st_size for folder in folders for file in folder.iterdir()) < 10_000_000


def test_the_command_on_a_bundled_card_names_a_packaged_configuration() -> None:
    for name in bundled_names():
        command = open_bundle(name).card.training.command
        assert command.startswith("neuroseg train ")
        assert configuration_path(command.split()[-1]).is_file()


@pytest.mark.parametrize("cut_at", [1, 2])
def test_a_bundle_is_never_lost_while_it_is_replaced(
    cut_at: int, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt before or after the old bundle is moved leaves a complete bundle and no other files."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_model, folder)
    before = open_bundle(str(folder))
    changed = {name: tensor + 1 for name, tensor in before.network().state_dict().items()}
    replaced, renames = os.replace, []

    def cut(source: Path, target: Path) -> None:
        if folder in (source, target):
            renames.append(source)
            if len(renames) == cut_at:
                raise KeyboardInterrupt
        replaced(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("neuroseg.networks.bundle.os.replace", cut)
        with pytest.raises(KeyboardInterrupt):
            save_bundle(folder, before.card, changed)
    assert open_bundle(str(folder)).sha256 == open_bundle(tiny_model).sha256
    save_bundle(folder, before.card, changed)
    assert open_bundle(str(folder)).sha256 != open_bundle(tiny_model).sha256
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
def test_bundles_follow_the_umask(umask: int, mode: int, tiny_model: str, tmp_path: Path) -> None:
    card = open_bundle(tiny_model).card
    network = build_network(card.network.architecture, card.network.parameters)
    before = os.umask(umask)
    try:
        save_bundle(tmp_path / "saved", card, network.state_dict())
        save_encoder(tmp_path, network, card.network.architecture, card.network.parameters)
    finally:
        os.umask(before)
    files = [*(tmp_path / "saved").iterdir(), tmp_path / "encoder.safetensors"]
    assert {path.name: path.stat().st_mode & 0o777 for path in files} == {
        "card.yaml": mode,
        "weights.safetensors": mode,
        "encoder.safetensors": mode,
    }
    assert (tmp_path / "saved").stat().st_mode & 0o777 == 0o777 & ~umask
