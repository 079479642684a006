"""Bins and bars of segment sizes."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from neuroseg.views.histogram import bars, size_bins


def test_every_segment_and_voxel_is_in_one_bin() -> None:
    sizes = np.array([1, 3, 4, 10, 99, 100, 1000])
    bins = size_bins(sizes)
    assert bins.edges == pytest.approx(10.0 ** (np.arange(0, 8) / 2))
    assert bins.segments.tolist() == [2, 1, 1, 1, 1, 0, 1]
    assert bins.voxels.tolist() == [4, 4, 10, 99, 100, 0, 1000]


def test_bins_begin_at_the_smallest_segment() -> None:
    bins = size_bins(np.array([5000, 20000]))
    assert bins.edges[0] <= 5000 < bins.edges[1]
    assert bins.segments.sum() == 2
    assert size_bins(np.empty(0, np.int64)).segments.tolist() == [0]


def test_bars_are_as_tall_as_their_values() -> None:
    svg = bars([2, 4, 0], [1, 10, 100, 1000], "sizes <&>", "segments")
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == "sizes <&>"
    heights = [float(rect.attrib["height"]) for rect in root.iter("rect")]
    assert heights == [heights[1] / 2, heights[1], 0]
    assert {"1", "10", "100", "1,000"} <= set(re.findall(r">([\d,]+)</text>", svg))


def test_no_segments_still_give_a_drawing() -> None:
    ElementTree.fromstring(bars([0], [1, 3.2], "nothing", "segments"))
