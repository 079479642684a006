"""The picture of perturbations shows the same section of one crop for each perturbation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from neuroseg.training.data import preview
from neuroseg.training.perturbations.draw import MOVEMENT, NAMES, TURNS
from neuroseg.training.train import open_training
from neuroseg.views.contact_sheet import Frame


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Frame]:
    """The frames of a picture."""
    frames: list[Frame] = []

    def keep(path: Path, shown: Sequence[Frame], title: str) -> None:
        frames.extend(shown)

    monkeypatch.setattr(preview, "contact_sheet", keep)
    return frames


@pytest.mark.parametrize("seed", [1, 2])
def test_every_perturbation_is_shown_on_the_clean_section(seed: int, drawn: list[Frame], configuration: Path) -> None:
    opened = open_training(configuration).training[0]
    preview.draw_perturbations(Path("sheet.png"), opened, seed=seed, strength=1.0)
    clean, *others = drawn
    assert (clean.name, *(frame.name for frame in others)) == ("clean", *NAMES)
    for frame in others:
        assert np.abs(frame.raw - clean.raw).mean() > 1e-3, f"{frame.name} shows"
        if frame.name not in (*MOVEMENT, *TURNS):
            assert np.array_equal(frame.labels, clean.labels), f"{frame.name} moves nothing"
    softer = next(frame.raw for frame in others if frame.name == "blur")
    assert np.corrcoef(softer.ravel(), clean.raw.ravel())[0, 1] > 0.8


def test_a_strength_of_zero_shows_the_clean_section(drawn: list[Frame], configuration: Path) -> None:
    preview.draw_perturbations(Path("sheet.png"), open_training(configuration).training[0], seed=1, strength=0.0)
    for frame in drawn:
        assert np.allclose(frame.raw, drawn[0].raw, atol=1e-6)
        assert np.array_equal(frame.labels, drawn[0].labels)
