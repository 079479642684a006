"""The architectures have the published sizes and keep the shape of their input."""

import pytest
import torch

from neuroseg.errors import InputError
from neuroseg.networks.architectures import build_network, parameter_count


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
