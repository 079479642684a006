"""A picture of one labelled section, clean and with each perturbation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from funlib.geometry import Roi

from neuroseg.training.data.labelled import OpenedVolume
from neuroseg.training.perturbations.draw import NAMES, Perturbed, perturbed
from neuroseg.views.contact_sheet import Frame, contact_sheet

_SHAPE = (18, 160, 160)
_DRAWS = 100


def draw_perturbations(path: Path, opened: OpenedVolume, *, seed: int, strength: float) -> None:
    """Write a PNG with raw and labels of the middle section of a crop, clean and with each perturbation."""
    shape = [min(wanted, size) for wanted, size in zip(_SHAPE, opened.region.shape, strict=True)]
    shape[1:] = [min(shape[1:])] * 2
    place = Roi(opened.region.begin, shape)
    raw = opened.raw.read(place).astype(np.float32) / np.float32(255)
    labels = opened.read_labels(place)
    section = shape[0] // 2
    frames = [Frame("clean", raw[section], labels[section])]
    for number, name in enumerate(NAMES):
        made = _shown(raw, name, np.random.default_rng([seed, number]), strength)
        frames.append(Frame(name, made.raw[section], made.follow(labels)[section]))
    file = Path(opened.raw.path).name
    title = (
        f"One section of {file} and its labels, perturbed with strength {strength:g} "
        "(white: borders before the perturbation)"
    )
    contact_sheet(path, frames, title)


def _shown(raw: np.ndarray, name: str, rng: np.random.Generator, strength: float) -> Perturbed:
    """Return one perturbation that changes the middle section. Draws again if it changes other sections more."""
    other = raw[::-1, ::-1].copy()
    for _ in range(_DRAWS if strength > 0 else 1):
        made = perturbed(raw, [name], rng, strength=strength, other=lambda: other)
        change = np.abs(made.raw - raw).mean(axis=(1, 2))
        if change[len(raw) // 2] > change.max() / 2:
            break
    return made
