"""Checkpoints of the published research code become networks with the same outputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from neuroseg.cli.main import exit_code
from neuroseg.networks.architectures import build_network
from neuroseg.networks.bundle import open_bundle
from neuroseg.networks.encoder import load_encoder

Weights = dict[str, torch.Tensor]
WIDTHS = [2, 3, 4, 5, 6]


def convolution(weights: Weights, name: str, out: int, into: int, kernel: tuple[int, ...], *, bias: bool) -> None:
    weights[f"{name}.weight"] = torch.randn(out, into, *kernel) * 0.3
    if bias:
        weights[f"{name}.bias"] = torch.randn(out) * 0.1


def norm(weights: Weights, name: str, width: int) -> None:
    weights[f"{name}.weight"], weights[f"{name}.bias"] = torch.rand(width) + 0.5, torch.randn(width) * 0.1
    weights[f"{name}.running_mean"], weights[f"{name}.running_var"] = torch.randn(width) * 0.1, torch.rand(width) + 0.5
    weights[f"{name}.num_batches_tracked"] = torch.tensor(7)


def block(weights: Weights, name: str, into: int, width: int) -> None:
    convolution(weights, f"{name}.block1.0", width, into, (1, 3, 3), bias=False)
    norm(weights, f"{name}.block1.1", width)
    convolution(weights, f"{name}.block2.0", width, width, (3, 3, 3), bias=False)
    norm(weights, f"{name}.block2.1", width)
    convolution(weights, f"{name}.block2.3", width, width, (3, 3, 3), bias=False)
    norm(weights, f"{name}.block3", width)


def superhuman_weights(*, skips: bool = True, outputs: int = 3) -> Weights:
    torch.manual_seed(0)
    weights: Weights = {}
    convolution(weights, "embed_in.0", WIDTHS[0], 1, (1, 5, 5), bias=True)
    for name, into, width in zip(("conv0", "conv1", "conv2", "conv3", "center"), WIDTHS[:1] + WIDTHS, WIDTHS,
                                 strict=False):  # fmt: skip
        block(weights, name, into, width)
    for number, (below, width) in enumerate(zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True)):
        weights[f"up{number}.0.weight"] = torch.randn(below, 1, 1, 2, 2) * 0.5
        weights[f"up{number}.0.bias"] = torch.randn(below) * 0.1
        convolution(weights, f"up{number}.1", width, below, (1, 1, 1), bias=True)
        norm(weights, f"cat{number}.0", 2 * width if skips else width)
        block(weights, f"conv{4 + number}", 2 * width if skips else width, width)
    convolution(weights, "embed_out.0", WIDTHS[0], WIDTHS[0], (1, 5, 5), bias=True)
    convolution(weights, "out_put.0", outputs, WIDTHS[0], (1, 1, 1), bias=True)
    return weights


def superhuman_says(weights: Weights, raw: torch.Tensor) -> torch.Tensor:
    """The network of the paper, computed from the weights by their published names; logits."""

    def conv(name: str, features: torch.Tensor, padding: tuple[int, int, int]) -> torch.Tensor:
        return functional.conv3d(features, weights[f"{name}.weight"], weights.get(f"{name}.bias"), padding=padding)

    def normed(name: str, features: torch.Tensor) -> torch.Tensor:
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return functional.batch_norm(features, mean, variance, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def residual(name: str, features: torch.Tensor) -> torch.Tensor:
        first = functional.elu(normed(f"{name}.block1.1", conv(f"{name}.block1.0", features, (0, 1, 1))))
        second = functional.elu(normed(f"{name}.block2.1", conv(f"{name}.block2.0", first, (1, 1, 1))))
        return functional.elu(normed(f"{name}.block3", first + conv(f"{name}.block2.3", second, (1, 1, 1))))

    features = functional.elu(conv("embed_in.0", raw, (0, 2, 2)))
    passed = []
    for name in ("conv0", "conv1", "conv2", "conv3"):
        passed.append(residual(name, features))
        features = functional.max_pool3d(passed[-1], (1, 2, 2))
    features = residual("center", features)
    for number, skip in enumerate(reversed(passed)):
        below = weights[f"up{number}.0.weight"]
        raised = functional.conv_transpose3d(
            features, below, weights[f"up{number}.0.bias"], stride=(1, 2, 2), groups=len(below)
        )
        merged = torch.cat([conv(f"up{number}.1", raised, (0, 0, 0)), skip], 1)
        features = residual(f"conv{4 + number}", functional.elu(normed(f"cat{number}.0", merged)))
    return conv("out_put.0", functional.elu(conv("embed_out.0", features, (0, 2, 2))), (0, 0, 0))


@pytest.mark.parametrize("form", ["bare", "wrapped", "parallel"])
def test_a_superhuman_checkpoint_computes_the_same(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = superhuman_weights()
    prefix = "module." if form == "parallel" else ""
    named = {f"{prefix}{name}": tensor for name, tensor in weights.items()}
    content = named if form == "bare" else {"current_iter": 300, "valid_result": 0.5, "model_weights": named}
    torch.save(content, tmp_path / "seg.ckpt")
    command = ["models", "convert", str(tmp_path / "seg.ckpt"), "-o", str(tmp_path / "bundle"), "--json"]
    assert exit_code(command) == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == "superhuman"
    bundle = open_bundle(str(tmp_path / "bundle"))
    assert bundle.card.tile.blend == "gaussian"
    assert bundle.card.gpu_tile is not None
    assert bundle.card.gpu_tile.computed_per_kept <= 2
    bundle.check()
    assert bundle.card.voxel_size_nm == (30, 6, 6)
    assert bundle.card.training.command == f"neuroseg {' '.join(command)}"
    raw = torch.rand(1, 1, 3, 16, 32)
    with torch.inference_mode():
        found, expected = bundle.network()(raw), superhuman_says(weights, raw)
    assert expected.std() > 0.01
    assert torch.allclose(found, expected, atol=1e-4)
    assert exit_code(command) == 2, "what exists is not overwritten"


def test_a_pre_training_checkpoint_becomes_an_encoder(tmp_path: Path) -> None:
    weights = superhuman_weights(skips=False, outputs=1)
    torch.save(weights, tmp_path / "pre.ckpt")
    assert exit_code(["models", "convert", str(tmp_path / "pre.ckpt"), "-o", str(tmp_path / "encoder")]) == 0
    network = build_network("superhuman", {"widths": WIDTHS})
    load_encoder(tmp_path / "encoder", network, "superhuman", {"widths": WIDTHS})
    state = network.state_dict()
    assert torch.equal(state["stem.weight"], weights["embed_in.0.weight"])
    assert torch.equal(state["encoder.4.second_norm.running_var"], weights["center.block3.running_var"])


def mala_weights() -> Weights:
    torch.manual_seed(1)
    weights: Weights = {}
    widths = [2, 3, 4, 5]
    for level, (into, width) in enumerate(zip([1, *widths], widths, strict=False)):
        convolution(weights, f"conv{2 * level + 1}", width, into, (3, 3, 3), bias=True)
        convolution(weights, f"conv{2 * level + 2}", width, width, (3, 3, 3), bias=True)
    for number, (below, width) in enumerate(zip(widths[:0:-1], widths[-2::-1], strict=True)):
        weights[f"dconv{number + 1}.weight"] = torch.randn(below, 1, 1, 3, 3) * 0.5
        convolution(weights, f"conv{9 + 3 * number}", width, below, (1, 1, 1), bias=True)
        convolution(weights, f"conv{10 + 3 * number}", width, 2 * width, (3, 3, 3), bias=True)
        convolution(weights, f"conv{11 + 3 * number}", width, width, (3, 3, 3), bias=True)
    convolution(weights, "conv18", 3, widths[0], (1, 1, 1), bias=True)
    return weights


def mala_says(weights: Weights, raw: torch.Tensor) -> torch.Tensor:
    def conv(number: int, features: torch.Tensor) -> torch.Tensor:
        return functional.conv3d(features, weights[f"conv{number}.weight"], weights[f"conv{number}.bias"])

    def pair(number: int, features: torch.Tensor) -> torch.Tensor:
        return functional.leaky_relu(conv(number + 1, functional.leaky_relu(conv(number, features), 0.005)), 0.005)

    passed, features = [], raw
    for level in range(4):
        features = pair(2 * level + 1, functional.max_pool3d(features, (1, 3, 3)) if level else features)
        passed.append(features)
    for number, skip in enumerate(reversed(passed[:3])):
        below = weights[f"dconv{number + 1}.weight"]
        raised = conv(9 + 3 * number, functional.conv_transpose3d(features, below, stride=(1, 3, 3), groups=len(below)))
        cut = [(a - b) // 2 for a, b in zip(skip.shape[2:], raised.shape[2:], strict=True)]
        z, y, x = (slice(c, c + size) for c, size in zip(cut, raised.shape[2:], strict=True))
        features = pair(10 + 3 * number, torch.cat([raised, skip[:, :, z, y, x]], 1))
    return conv(18, features)


def test_a_mala_checkpoint_computes_the_same(tmp_path: Path) -> None:
    weights = mala_weights()
    torch.save({"model_weights": weights}, tmp_path / "mala.ckpt")
    command = ["models", "convert", str(tmp_path / "mala.ckpt"), "-o", str(tmp_path / "m"), "--voxel-size", "40", "4"]
    assert exit_code([*command, "4"]) == 0
    bundle = open_bundle(str(tmp_path / "m"))
    assert bundle.card.voxel_size_nm == (40, 4, 4)
    assert bundle.card.gpu_tile is not None
    assert bundle.card.gpu_tile.computed_per_kept < 2.04 < 20 < bundle.card.tile.computed_per_kept
    raw = torch.rand(1, 1, 29, 214, 214)
    with torch.inference_mode():
        found, expected = bundle.network()(raw), mala_says(weights, raw)
    assert found.shape == (1, 3, 1, 2, 2)
    assert torch.allclose(found, expected, atol=1e-4)


def spoiled(how: str) -> object:
    weights = superhuman_weights()
    if how == "missing":
        del weights["conv5.block3.bias"]
    elif how == "left over":
        weights["conv9.weight"] = torch.zeros(1)
    elif how == "shape":
        weights["up0.1.weight"] = torch.zeros(5, 7, 1, 1, 1)
    elif how == "another network":
        return {"fc.weight": torch.zeros(3)}
    elif how == "no weights":
        return {"lr": 0.1}
    elif how == "objects":
        return {"model_weights": weights, "valid_result": np.float64(0.5)}
    return weights


@pytest.mark.parametrize(
    ("how", "message"),
    [("missing", "missing"), ("left over", "unexpected"), ("shape", "shape"), ("another network", "neither"),
     ("no weights", "no weights"), ("objects", "only tensors and plain values")],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    how: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(spoiled(how), tmp_path / "c.ckpt")
    assert exit_code(["models", "convert", str(tmp_path / "c.ckpt"), "-o", str(tmp_path / "b")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_models_lists_the_architectures(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["models", "--json"]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)["architectures"]}
    assert found["superhuman"]["parameters"] == 1_555_471
    assert found["mala"]["parameters"] == 84_020_475
    assert found["mala"]["margin_voxels"] == [14, 106, 106]
    assert exit_code(["models"]) == 0
    assert "84,020,475" in capsys.readouterr().out


@pytest.mark.parametrize("size", [("0", "-1", "4"), ("30", "nan", "6"), ("inf", "6", "6")])
def test_a_voxel_size_of_zero_is_refused(
    size: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(superhuman_weights(), tmp_path / "seg.ckpt")
    command = ["models", "convert", str(tmp_path / "seg.ckpt"), "-o", str(tmp_path / "bundle"), "--voxel-size", *size]
    assert exit_code(command) == 2
    assert "three positive lengths in nm are expected" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
