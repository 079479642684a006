"""The architectures have the published sizes and keep the shape of their input."""

import pytest
import torch
from torch import nn

from neuroseg.errors import InputError
from neuroseg.networks.architectures import build_network, parameter_count
from neuroseg.networks.context import receptive_context


def test_superhuman_has_the_published_number_of_parameters() -> None:
    network = build_network("superhuman", {})
    assert parameter_count(network) == 1_555_471
    encoder = parameter_count(network.stem) + parameter_count(network.encoder)
    assert encoder == 911_192


@pytest.mark.parametrize(("name", "shape"), [("superhuman", (3, 32, 48)), ("light", (8, 16, 24))])
def test_output_has_the_shape_of_the_input(name: str, shape: tuple[int, int, int]) -> None:
    network = build_network(name, {"outputs": 5}).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 1, *shape)).shape == (2, 5, *shape)


def test_superhuman_begins_and_normalises_as_published() -> None:
    torch.manual_seed(0)
    modules = list(build_network("superhuman", {}).modules())
    norms = [module for module in modules if isinstance(module, nn.BatchNorm3d)]
    assert len(norms) == 9 * 3 + 4
    assert {module.momentum for module in norms} == {0.001}
    for module in modules:
        if isinstance(module, nn.Conv3d):
            inputs = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.25), "after Kaiming He"


def test_superhuman_never_pools_z() -> None:
    network = build_network("superhuman", {}).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 1, 1, 16, 16)).shape == (1, 3, 1, 16, 16)


def test_an_unknown_architecture_names_the_close_one() -> None:
    with pytest.raises(InputError, match="superhuman"):
        build_network("superhumn", {})


def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(InputError, match="depth"):
        build_network("light", {"depth": 3})


def test_mala_has_the_published_number_of_parameters_and_shapes() -> None:
    with torch.device("meta"):
        network = build_network("mala", {})
        assert parameter_count(network) == 84_020_475
        assert network(torch.rand(1, 1, 53, 268, 268)).shape == (1, 3, 25, 56, 56)
    assert network.windows.margin == (14, 106, 106)
    assert network.windows.allows((53, 268, 268))
    assert not network.windows.allows((53, 268, 269))
    assert not network.windows.allows((53, 187, 268)), "nothing would be left of it"


def test_networks_without_skip_connections() -> None:
    assert parameter_count(build_network("superhuman", {"skips": False, "outputs": 1})) == 1_478_741
    for name, shape in (("superhuman", (2, 16, 16)), ("light", (8, 8, 8))):
        network = build_network(name, {"skips": False, "outputs": 1}).eval()
        with torch.inference_mode():
            assert network(torch.rand(1, 1, *shape)).shape == (1, 1, *shape)


@pytest.mark.parametrize(
    ("name", "widths", "context"),
    [("light", 4, (52, 52, 52)), ("superhuman", 5, (18, 157, 157)), ("mala", 4, (14, 132, 132))],
)
def test_the_context_is_known(name: str, widths: int, context: tuple[int, int, int]) -> None:
    network = build_network(name, {"widths": [1] * widths})
    assert receptive_context(network.reach) == context


@pytest.mark.parametrize(("name", "widths"), [("light", 3), ("superhuman", 3), ("mala", 2), ("mala", 3)])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_context_equals_the_receptive_field(name: str, widths: int, axis: int) -> None:
    """NaN in one plane reaches exactly the voxels that depend on it, at each position relative to the pooling."""
    network = build_network(name, {"widths": [1] * widths, "outputs": 1}).eval()
    rule = network.windows
    window = [next(n for n in range(rule.least[a], 999) if n % rule.divisor[a] == rule.remainder[a]) for a in range(3)]
    window[axis] += 45 * rule.divisor[axis] if axis else 60
    reached = []
    for shift in range(rule.divisor[axis]):
        raw, place = torch.zeros(1, 1, *window), window[axis] // 2 + shift
        raw.select(2 + axis, place).fill_(float("nan"))
        with torch.inference_mode():
            seen = torch.isnan(network(raw))[0, 0].movedim(axis, 0).flatten(1).any(1)
        reached.append((torch.nonzero(seen).flatten() + rule.margin[axis] - place).abs().max().item())
    assert max(reached) == receptive_context(network.reach)[axis]
