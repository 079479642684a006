"""Sections get equal brightness, computed from whole sections and independent of the blocks."""

from __future__ import annotations

import numpy as np

from neuroseg.affinities.sections import normalised, section_histograms, section_lookup


def test_histograms_count_every_voxel_of_each_section() -> None:
    raw = np.array([[[0, 7], [7, 255]], [[1, 1], [1, 1]]], np.uint8)
    histograms = section_histograms(raw)
    assert histograms.shape == (2, 256)
    assert (histograms[0, [0, 7, 255]] == [1, 2, 1]).all()
    assert histograms[1, 1] == 4
    assert histograms.sum() == 8


def test_histograms_of_parts_add_up() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (3, 20, 30), np.uint8)
    parts = section_histograms(raw[:, :, :11]) + section_histograms(raw[:, :, 11:])
    assert np.array_equal(parts, section_histograms(raw))


def test_sections_get_equal_brightness_and_contrast() -> None:
    base = np.random.default_rng(1).normal(0, 20, (64, 64))
    raw = np.stack([np.rint(gain * base + mean) for gain, mean in ((1, 120), (0.5, 60), (1, 120), (1.5, 150))])
    raw = np.clip(raw, 1, 255).astype(np.uint8)
    made = normalised(raw, section_lookup(section_histograms(raw))).astype(float)
    assert np.ptp(raw.mean(axis=(1, 2))) > 80
    assert np.ptp(made.mean(axis=(1, 2))) < 2
    assert np.ptp(made.std(axis=(1, 2))) < 2
    assert np.abs(made[1] - made[0]).mean() < 1


def test_missing_and_flat_sections_and_padding_do_not_change() -> None:
    raw = np.random.default_rng(2).integers(50, 90, (4, 16, 16), np.uint8)
    raw[1] = 0
    raw[2] = 77
    raw[3] += 100
    raw[3, :4] = 0
    made = normalised(raw, section_lookup(section_histograms(raw)))
    assert (made[1] == 0).all()
    assert (made[2] == 77).all()
    assert (made[3, :4] == 0).all()
    assert made[3, 4:].min() > 0


def test_a_volume_without_contrast_does_not_change() -> None:
    raw = np.zeros((2, 3, 3), np.uint8)
    assert np.array_equal(normalised(raw, section_lookup(section_histograms(raw))), raw)
