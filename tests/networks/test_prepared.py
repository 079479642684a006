"""Folded and padded networks are the same function as the plain one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from neuroseg.networks.architectures import build_network
from neuroseg.networks.bundle import open_bundle
from neuroseg.networks.folding import folded
from neuroseg.networks.padding import padded

NETWORKS: list[tuple[str, dict[str, Any], tuple[int, int, int]]] = [
    ("light", {"widths": [6, 12, 20], "outputs": 5}, (8, 8, 12)),
    ("light", {"widths": [6, 12, 20], "norm": "group"}, (8, 8, 12)),
    ("superhuman", {}, (3, 32, 16)),
    ("superhuman", {"widths": [6, 12, 24], "skips": False, "outputs": 1}, (3, 8, 12)),
    ("mala", {"widths": [4, 6, 12]}, (30, 80, 80)),
]


def trained(name: str, parameters: dict[str, Any]) -> nn.Module:
    """A network with statistics and weights of normalisation that change its values."""
    torch.manual_seed(0)
    network = build_network(name, parameters)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            for tensor in (module.weight, module.running_var):
                tensor.data.uniform_(0.8, 1.25)  # type: ignore[union-attr,operator]
            for tensor in (module.bias, module.running_mean):
                tensor.data.uniform_(-0.5, 0.5)  # type: ignore[union-attr,operator]
    return network.eval()


def outputs(network: nn.Module, window: tuple[int, int, int]) -> torch.Tensor:
    raw = torch.rand((1, 1, *window), generator=torch.Generator().manual_seed(1))
    raw = raw.to(next(network.parameters()).dtype)
    with torch.inference_mode():
        return torch.sigmoid(network(raw))


@pytest.mark.parametrize(("name", "parameters", "window"), NETWORKS)
@pytest.mark.parametrize("prepare", [folded, padded, lambda network: padded(folded(network))])
def test_the_prepared_network_is_the_same_function(
    prepare: Any, name: str, parameters: dict[str, Any], window: tuple[int, int, int]
) -> None:
    network = trained(name, parameters)
    before = copy.deepcopy(network.state_dict())
    expected = outputs(network, window)
    assert expected.std() > 1e-3
    found = outputs(prepare(network), window)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5
    exact = network.double()
    assert (outputs(prepare(exact), window) - outputs(exact, window)).abs().max() <= 1e-12
    network.float()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items()), "it is a copy"


def test_folding_removes_what_follows_convolutions() -> None:
    light, superhuman = folded(trained("light", {})), folded(trained("superhuman", {}))
    assert not any(isinstance(module, nn.BatchNorm3d) for module in light.modules())
    names = [name for name, module in superhuman.named_modules() if isinstance(module, nn.BatchNorm3d)]
    assert all(name.endswith(("second_norm", ".norm")) for name in names), "after a sum, and after a concatenation"
    assert len(names) == 9 + 4


def test_padding_gives_channels_in_multiples_of_eight() -> None:
    network = padded(build_network("superhuman", {}))
    shapes = {name: tuple(tensor.shape[:2]) for name, tensor in network.named_parameters() if tensor.ndim == 5}
    assert shapes["stem.weight"] == (32, 1)
    assert shapes["head.weight"] == (3, 32)
    assert shapes["merges.0.block.planar.weight"] == (32, 64), "two features of 28 channels"
    assert shapes["ups.0.raise_.weight"] == (40, 1)
    odd = [name for name, shape in shapes.items() if any(size % 8 for size in shape if size not in (1, 3))]
    assert not odd


def test_the_bundled_network_folds_to_within_float_rounding() -> None:
    network = open_bundle("fib25_light").network()
    expected = outputs(network, (32, 32, 32))
    assert (outputs(padded(folded(network)), (32, 32, 32)) - expected).abs().max() <= 1e-5
