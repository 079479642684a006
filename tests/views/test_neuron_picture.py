"""The PNG has the pictures pixel by pixel, a scale bar of the right length, and arrows in their colours."""

from __future__ import annotations

from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest
from PIL import Image

from neuroseg.views.neuron_picture import ARROWS, Arrow, Panel, length_text, neuron_picture, scale_bar

GREY = np.full((200, 300, 3), 0.6)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def coloured(pixels: np.ndarray, colour: str) -> np.ndarray:
    """The mask of pixels near a colour."""
    wanted = np.array(matplotlib.colors.to_rgb(colour)) * 255
    return (abs(pixels - wanted) < 12).all(axis=-1)


@pytest.mark.parametrize(("nm_per_pixel", "length_nm"), [(4.0, 200), (7.3, 500), (250.0, 10_000)])
def test_the_scale_bar_has_the_length_that_it_states(tmp_path: Path, nm_per_pixel: float, length_nm: float) -> None:
    neuron_picture(tmp_path / "a.png", [Panel(GREY)], nm_per_pixel)
    black = (pixels_of(tmp_path / "a.png")[200:] == 0).all(axis=-1)
    longest = max(sum(1 for _ in run) for row in black for run in runs(row))
    assert scale_bar(300, nm_per_pixel) == (length_nm, longest)
    assert longest * nm_per_pixel == pytest.approx(length_nm, rel=0.02)


def runs(row: np.ndarray) -> list[np.ndarray]:
    """The runs of true values of a row."""
    return [run for run in np.split(row, np.flatnonzero(np.diff(row)) + 1) if run.all()]


def test_lengths_have_units() -> None:
    assert [length_text(nm) for nm in (5, 500, 1000, 20_000)] == ["5 nm", "500 nm", "1 µm", "20 µm"]


def test_pictures_are_copied_pixel_by_pixel_side_by_side(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((200, 300, 3))
    neuron_picture(tmp_path / "a.png", [Panel(GREY, "one"), Panel(noise, "two")], 4.0)
    pixels = pixels_of(tmp_path / "a.png")
    gap = pixels.shape[1] - 600
    assert gap > 0
    above = np.flatnonzero((pixels[:, 0] == 153).all(axis=-1))[0]
    assert above > 0
    np.testing.assert_array_equal(pixels[above : above + 200, 300 + gap :], np.round(noise * 255))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_arrows_point_to_their_pixels_in_the_colour_of_the_error(tmp_path: Path) -> None:
    arrows = (Arrow(50, 60, "split"), Arrow(120, 295, "merge"), Arrow(100, 150, "split"))
    neuron_picture(tmp_path / "a.png", [Panel(GREY, "", arrows)], 4.0)
    pixels = pixels_of(tmp_path / "a.png")[:200]
    for arrow in arrows:
        rows, columns = np.nonzero(coloured(pixels, ARROWS[arrow.error]))
        assert np.hypot(rows - arrow.row, columns - arrow.column).min() < 8
    # The legend names both errors in their colours.
    legend = pixels_of(tmp_path / "a.png")[200:]
    assert all(coloured(legend, colour).any() for colour in ARROWS.values())
