"""Training precision, and the warning about emulated bfloat16."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from neuroseg.training.learning.precision import predicted, warn_if_emulated


def test_float32_is_exact_and_bfloat16_has_eight_bits() -> None:
    network = nn.Conv3d(1, 1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    raw = torch.full((1, 1, 2, 2, 2), 1.001)
    whole, short = predicted(network, raw, "float32"), predicted(network, raw, "bfloat16")
    assert (whole.dtype, short.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(whole, raw)
    assert torch.equal(short.float(), torch.ones_like(raw))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_are_float32_as_the_weights_are(precision: str) -> None:
    network = nn.Conv3d(1, 1, 1)
    predicted(network, torch.ones(1, 1, 2, 2, 2), precision).sum().backward()  # type: ignore[arg-type]
    assert network.weight.grad is not None
    assert network.weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("device", "precision", "own", "warned"),
    [
        ("cuda", "bfloat16", False, True),
        ("cuda:1", "bfloat16", False, True),
        ("cuda", "bfloat16", True, False),
        ("cuda", "float32", False, False),
        ("cpu", "bfloat16", False, False),
    ],
)
def test_a_gpu_that_emulates_bfloat16_gives_a_warning(
    device: str,
    precision: str,
    own: bool,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[torch.device] = []

    @contextmanager
    def current(device: torch.device) -> Iterator[None]:
        asked.append(device)
        yield
        asked.pop()

    def is_supported(including_emulation: bool) -> bool:
        assert asked == [torch.device(device)], "not of another GPU"
        return own

    monkeypatch.setattr(torch.cuda, "device", current)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    with caplog.at_level(logging.WARNING):
        warn_if_emulated(torch.device(device), precision)  # type: ignore[arg-type]
    assert ("Tesla V100 emulates bfloat16" in caplog.text) is warned
