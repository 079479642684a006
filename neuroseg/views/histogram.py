"""Sizes of segments -> a drawing of their distribution as SVG, in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

# Size of the drawing, and the space for its labels, in SVG units.
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 220, 44, 8, 12, 40
_BINS_PER_DECADE = 2


@dataclass(frozen=True)
class SizeBins:
    """Segments by size: `edges` `(n + 1,)` in voxels, the `segments` `(n,)` per bin, and their `voxels` `(n,)`."""

    edges: NDArray[np.float64]
    segments: NDArray[np.int64]
    voxels: NDArray[np.int64]


def size_bins(sizes: NDArray[np.integer]) -> SizeBins:
    """Return the bins of segments with `sizes` (voxels, at least 1), two per decade, from the smallest size on.

    Without segments, there is one empty bin.
    """
    largest = int(sizes.max(initial=1))
    first = math.floor(_BINS_PER_DECADE * math.log10(max(1, int(sizes.min(initial=largest)))))
    last = math.floor(_BINS_PER_DECADE * math.log10(largest)) + 1
    edges = 10.0 ** (np.arange(first, last + 1) / _BINS_PER_DECADE)
    place = np.searchsorted(edges, sizes, side="right") - 1
    count = len(edges) - 1
    voxels = np.zeros(count, np.int64)
    np.add.at(voxels, place, sizes.astype(np.int64))
    return SizeBins(edges, np.bincount(place, minlength=count).astype(np.int64), voxels)


def bars(heights: Sequence[float], edges: Sequence[float], title: str, unit: str) -> str:
    """Return an SVG of one bar per bin. `edges` are powers of ten and points between them, `unit` is that of heights.

    Text and bars have the classes `label`, `rule` and `bar`; the page sets their colours. `title` is the alternative
    text.
    """
    tallest = max(heights, default=0) or 1
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    step = wide / len(heights)
    parts = [f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in _ticks(tallest):
        y = _TOP + high * (1 - tick / tallest)
        parts.append(f'<path class="rule" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="label" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for number, height in enumerate(heights):
        tall = high * height / tallest
        x, y = _LEFT + number * step + 1, _TOP + high - tall
        parts.append(f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{max(step - 2, 1):.1f}" height="{tall:.1f}"/>')
    for number, edge in enumerate(edges):
        power = round(math.log10(edge), 6)
        if power == int(power):
            x = _LEFT + number * step
            parts.append(f'<text class="label" x="{x:.1f}" y="{_TOP + high + 16}" text-anchor="middle">')
            parts.append(f"{_power_text(int(power))}</text>")
    middle = _LEFT + wide / 2
    parts.append(f'<text class="label" x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">voxels per segment</text>')
    parts.append(f'<text class="label" x="{_LEFT}" y="{_TOP - 2}" dy="-1">{escape(unit)}</text></svg>')
    return "".join(parts)


def _ticks(tallest: float) -> list[float]:
    """Return two to five round numbers up to `tallest`, without 0."""
    power = 10.0 ** math.floor(math.log10(tallest))
    step = next(part * power for part in (0.2, 0.5, 1.0, 2.0) if tallest / (part * power) < 5.5)
    return [step * number for number in range(1, int(tallest / step + 1e-9) + 1)]


def _power_text(power: int) -> str:
    return f"{10**power:,}" if power < 4 else f'10<tspan dy="-5" font-size="9">{power}</tspan>'
