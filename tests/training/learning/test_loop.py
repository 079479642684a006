"""Batches of the data loader."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch

from neuroseg.configuration import load_configuration
from neuroseg.training.learning import loop
from neuroseg.training.settings import TrainingSettings


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("cuda:0", True)])
def test_batches_for_a_gpu_are_pinned(
    device: str, pinned: bool, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    current: list[torch.device] = []

    def loader(samples: Any, **options: Any) -> Any:
        asked.update(options)
        return samples

    def made_current(device: torch.device) -> contextlib.AbstractContextManager[None]:
        current.append(device)
        return contextlib.nullcontext()

    monkeypatch.setattr(loop, "DataLoader", loader)
    monkeypatch.setattr(torch.cuda, "device", made_current)
    settings = load_configuration(configuration, TrainingSettings)
    samples = [{"raw": torch.zeros(1)}]
    assert list(loop.batches(samples, settings, device=torch.device(device))) == samples
    assert asked["pin_memory"] is pinned
    assert current == ([torch.device(device)] if pinned else [])
