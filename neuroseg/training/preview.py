"""Labelled tissue under every perturbation, on one sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from funlib.geometry import Roi

from neuroseg.training.perturbations.draw import NAMES, Perturbed, perturbed
from neuroseg.training.volumes import OpenedVolume
from neuroseg.views.contact_sheet import Frame, contact_sheet

_SHAPE = (18, 160, 160)
_DRAWS = 20


def draw_perturbations(path: Path, opened: OpenedVolume, *, seed: int, strength: float) -> None:
    """Write a PNG of one crop, clean and under each perturbation: the section that changed most, raw and labels."""
    shape = [min(wanted, size) for wanted, size in zip(_SHAPE, opened.region.shape, strict=True)]
    shape[1:] = [min(shape[1:])] * 2
    place = Roi(opened.region.begin, shape)
    raw = opened.raw.read(place).astype(np.float32) / np.float32(255)
    labels = opened.read_labels(place)
    frames = [Frame("clean", raw[shape[0] // 2], labels[shape[0] // 2])]
    for number, name in enumerate(NAMES):
        made = _shown(raw, name, np.random.default_rng([seed, number]), strength)
        section = int(np.abs(made.raw - raw).mean(axis=(1, 2)).argmax())
        frames.append(Frame(name, made.raw[section], made.follow(labels)[section]))
    contact_sheet(path, frames, f"Perturbations of {Path(opened.raw.path).name}, strength {strength:g}")


def _shown(raw: np.ndarray, name: str, rng: np.random.Generator, strength: float) -> Perturbed:
    """Return one perturbation; one that happens to change nothing is drawn again, a few times."""
    other = raw[::-1, ::-1].copy()
    for _ in range(_DRAWS):
        made = perturbed(raw, [name], rng, strength=strength, other=lambda: other)
        if not np.array_equal(made.raw, raw):
            break
    return made
