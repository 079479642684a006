"""A sample of a volume's voxels -> findings: problems with the values as raw or as labels. Arrays in, findings out.

Thresholds were measured on FIB-25, gala and ISBI 2012 (raw, neurons, supervoxels) and on Voronoi cells, with the boxes
of `sampled_boxes`. Share of equal neighbours: raw 0.02 to 0.04, smoothed or median-filtered 0.17, enlarged fourfold
0.76, reduced to 11 grey levels 0.67; neurons 0.92 to 0.98, supervoxels 0.93, Voronoi cells of 5 voxels 0.83.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.geometry import Triple
from neuroseg.volumes.scaling import scaled

Range = tuple[float, float]

# Sixteen positions along z with two sections each, because a section of a stack is decoded as a whole.
_BOXES = 16
_BOX_VOXELS: Triple = (2, 96, 96)
_WHOLE_VOXELS = 2**19
_LEAST_CERTAIN_VOXELS = 2**14  # smaller volumes are crops or trials

_LABEL_EQUAL_SHARE = 0.8
_MASK_VALUES = 4
# Steps between neighbours, counted in values that occur: images of few grey levels 1.0, ten Voronoi cells 3.9.
_LABEL_MEAN_STEP = 1.5
_IMAGE_EQUAL_SHARE = 0.5
_IMAGE_LEAST_VALUES = 17
# Median step between unequal neighbours over the range of values: raw 0.02 to 0.14, Gaussian noise 0.21, random
# ids 0.30.
_IMAGE_MOST_STEP = 0.25
_LEAST_PAIRS = 1000

_COUNTED_SHARE = 0.999  # single hot pixels do not count as grey levels
# 12 bits in uint16 give at most 17 grey levels, 13 bits 33; FIB-25 has 173.
_LEAST_LEVELS = 24
_LOST_LEVELS = 4
# FIB-25 uses half of its 256 levels, ISBI 2012 four fifths; 14 bits in uint16 use a quarter.
_NARROW_SHARE = 0.3
_CLIPPED_SHARE = 0.5
_ORIGINAL = "if the original has more grey levels, import the original with --range LOW HIGH"


@dataclass(frozen=True)
class Finding:
    """A problem with sampled values and its fix. `certain`: no useful result is possible."""

    problem: str
    fix: str
    certain: bool

    def __str__(self) -> str:
        return f"{self.problem}; {self.fix}"


@dataclass(frozen=True)
class Sample:
    """The distinct values, ascending, their counts, and pairs of neighbours in x and y as indices of the values."""

    values: NDArray[Any]
    counts: NDArray[np.int64]
    firsts: NDArray[np.int64]
    seconds: NDArray[np.int64]

    @property
    def equal_share(self) -> float:
        """Share of equal neighbours, 1 if there are no neighbours."""
        return float((self.firsts == self.seconds).mean()) if self.firsts.size else 1.0

    @property
    def low(self) -> float:
        """Least value that occurs."""
        return float(self.values[0])

    @property
    def high(self) -> float:
        """Largest value that occurs."""
        return float(self.values[-1])


def sampled_boxes(shape: Triple) -> list[Roi]:
    """Return boxes spread over a volume: all of a small volume, else 16 boxes of 2 x 96 x 96 voxels.

    They depend only on the shape.
    """
    if shape[0] * shape[1] * shape[2] <= _WHOLE_VOXELS:
        return [Roi((0, 0, 0), shape)]
    rng = np.random.default_rng(0)
    box = [min(edge, size) for edge, size in zip(_BOX_VOXELS, shape, strict=True)]
    return [
        Roi(
            (
                number * (shape[0] - box[0]) // (_BOXES - 1),
                int(rng.integers(shape[1] - box[1] + 1)),
                int(rng.integers(shape[2] - box[2] + 1)),
            ),
            box,
        )
        for number in range(_BOXES)
    ]


def sample_of(boxes: Sequence[NDArray[Any]]) -> Sample:
    """Return the sample of boxes `(z, y, x)` with at least one voxel."""
    values, indices = np.unique(np.concatenate([box.ravel() for box in boxes]), return_inverse=True)
    indices = indices.reshape(-1)
    firsts, seconds, at = [], [], 0
    for box in boxes:
        inside = indices[at : at + box.size].reshape(box.shape)
        at += box.size
        for one, other in ((inside[:, :-1], inside[:, 1:]), (inside[:, :, :-1], inside[:, :, 1:])):
            firsts.append(one.ravel())
            seconds.append(other.ravel())
    return Sample(values, np.bincount(indices), np.concatenate(firsts), np.concatenate(seconds))


def is_label_like(sample: Sample) -> bool:
    """Return whether integers look like ids or a mask: flat regions with sharp steps between them.

    Padding and clipped regions do not count: images have flat regions of these kinds.
    """
    count = len(sample.values)
    if sample.values.dtype.kind not in "ui" or count < 2 or not sample.firsts.size:
        return False
    if count <= _MASK_VALUES:
        return sample.equal_share >= _LABEL_EQUAL_SHARE
    equal = sample.firsts == sample.seconds
    common = np.isin(sample.firsts, [0, count - 1, int(sample.counts.argmax())])
    informative = ~(equal & common)
    if informative.sum() < _LEAST_PAIRS or equal.all():
        return False
    mean_step = float(np.abs(sample.firsts - sample.seconds)[~equal].mean())
    return float(equal[informative].mean()) >= _LABEL_EQUAL_SHARE and mean_step >= _LABEL_MEAN_STEP


def is_image_like(sample: Sample) -> bool:
    """Return whether values look like an image: neighbours are rarely equal and differ little. 0 is background."""
    if len(sample.values) < _IMAGE_LEAST_VALUES:
        return False
    one, other = sample.values[sample.firsts], sample.values[sample.seconds]
    inside = (one != 0) & (other != 0)
    if inside.sum() < _LEAST_PAIRS or (one == other)[inside].mean() >= _IMAGE_EQUAL_SHARE:
        return False
    unequal = inside & (one != other)
    steps = np.abs(one[unequal].astype(np.float64) - other[unequal].astype(np.float64))
    low, high = _quantiles(sample.values, sample.counts, (0.01, 0.99))
    return bool(np.median(steps) <= _IMAGE_MOST_STEP * (high - low))


def label_findings(sample: Sample) -> list[Finding]:
    """Return the problems of values that the user gave as labels."""
    if len(sample.values) == 1 and sample.low == 0:
        return [Finding("every sampled voxel is 0, background", "check that the copy is complete", certain=False)]
    if not is_image_like(sample):
        return []
    return [
        Finding(
            f"its values look like an image, not like labels: {100 * sample.equal_share:.0f} % of neighbouring voxels "
            f"are equal (labels: more than {100 * _LABEL_EQUAL_SHARE:.0f} %), {_found(sample)}",
            "give the label volume",
            certain=True,
        )
    ]


def raw_findings(sample: Sample, value_range: Range | None, *, chosen: bool) -> list[Finding]:
    """Return the problems of raw values. `value_range` becomes 0 to 255 (None: uint8 without scaling).

    `chosen`: the user gave the range, so only a range that leaves one grey level is certain. In a volume of a few
    thousand voxels nothing is certain. Values that are not finite are an error later, at conversion.
    """
    if not np.isfinite(sample.values).all():
        return []
    found = _finding_of_raw(sample, value_range, chosen=chosen)
    if found is None:
        return []
    return [found if sample.counts.sum() >= _LEAST_CERTAIN_VOXELS else replace(found, certain=False)]


def _finding_of_raw(sample: Sample, value_range: Range | None, *, chosen: bool) -> Finding | None:
    if len(sample.values) == 1:
        fix = "check that the copy is complete and that this is the right dataset"
        return Finding(f"every sampled voxel is {sample.low:g}", fix, certain=True)
    if is_label_like(sample) and not chosen:
        return _labels_as_raw(sample, value_range)
    mapped = _mapped(sample, value_range)
    levels, stored = _levels(mapped, sample.counts), _levels(np.arange(len(sample.values)), sample.counts)
    fix = f"give the range of the data, for example --range {_written(suggested_range(sample, value_range))}"
    becomes = f"{_found(sample)}, which become {levels} of 256 grey levels"
    if value_range is not None:
        becomes += f" with the range {_written(value_range)}"
    if levels == 1:
        return Finding(becomes, fix, certain=True)
    beyond = _beyond(sample, value_range)
    if beyond > _CLIPPED_SHARE:
        problem = f"{100 * beyond:.0f} % of the sampled voxels are outside the range; {becomes}"
        return Finding(problem, fix, certain=False)
    if levels <= _LEAST_LEVELS and stored >= _LOST_LEVELS * levels:
        return Finding(becomes, fix, certain=not chosen)
    if value_range is None:
        few = levels <= _LEAST_LEVELS
        return Finding(f"only {levels} grey levels, {_found(sample)}", _ORIGINAL, certain=False) if few else None
    return _narrow(sample, mapped, value_range, fix)


def _beyond(sample: Sample, value_range: Range | None) -> float:
    """Return the share of voxels that a range clips."""
    if value_range is None:
        return 0.0
    low, high = sorted(value_range)
    return float(sample.counts[(sample.values < low) | (sample.values > high)].sum() / sample.counts.sum())


def _narrow(sample: Sample, mapped: NDArray[np.uint8], value_range: Range, fix: str) -> Finding | None:
    """Return a finding for a range that is much wider than the data."""
    order = np.argsort(mapped, kind="stable")
    least, most = _quantiles(mapped[order], sample.counts[order], (0.001, 0.999))
    if most - least >= _NARROW_SHARE * 255:
        return None
    problem = f"{_found(sample)}, which the range {_written(value_range)} maps to grey levels {least:.0f} to {most:.0f}"
    return Finding(problem, fix, certain=False)


def probability_findings(sample: Sample) -> list[Finding]:
    """Return the problems of affinities or boundaries: floats in [0, 1], or uint8 with 255 for 1."""
    if sample.values.dtype != np.uint8 or sample.high != 1:
        return []
    problem = "its values are 0 and 1, but in uint8 an affinity of 1 is stored as 255"
    return [Finding(problem, "multiply the values by 255, or store them as float", certain=True)]


def suggested_range(sample: Sample, value_range: Range | None) -> Range:
    """Return a range that fits the values.

    For unsigned integers that begin near 0: from 0 to the largest number of the bits in use. Otherwise: from the
    smallest to the largest value. If `value_range` is inverted, so is the result.
    """
    low, high = sample.low, sample.high
    if sample.values.dtype.kind == "u":
        most = float(2 ** int(high).bit_length() - 1)
        if low < most / 4:
            low, high = 0.0, most
    return (high, low) if value_range is not None and value_range[0] > value_range[1] else (low, high)


def _labels_as_raw(sample: Sample, value_range: Range | None) -> Finding:
    """Return the finding for labels given as raw. Certain if ids would be lost; a mask is only copied."""
    loses_ids = len(np.unique(_mapped(sample, value_range))) < len(sample.values)
    return Finding(
        f"its values look like labels, not like raw: {100 * sample.equal_share:.0f} % of neighbouring voxels are "
        f"equal, {len(sample.values)} different values, {_found(sample)}",
        "if they are labels, import them with --labels; if they are raw, give the values that become 0 and 255: "
        f"--range {_written((sample.low, sample.high))}",
        certain=loses_ids or len(sample.values) > _MASK_VALUES,
    )


def _mapped(sample: Sample, value_range: Range | None) -> NDArray[np.uint8]:
    if value_range is None:
        return sample.values.astype(np.uint8)
    return scaled(sample.values, value_range)


def _levels(groups: NDArray[Any], counts: NDArray[np.int64]) -> int:
    """Return the number of groups, the largest first, that contain all but a thousandth of the voxels."""
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.sort(np.bincount(group.reshape(-1), weights=counts))[::-1]
    return int(np.searchsorted(np.cumsum(sizes), _COUNTED_SHARE * sizes.sum())) + 1


def _quantiles(values: NDArray[Any], counts: NDArray[np.int64], shares: Sequence[float]) -> list[float]:
    """Return quantiles of ascending values with `counts`."""
    reached = np.cumsum(counts)
    return [float(values[min(int(np.searchsorted(reached, s * reached[-1])), len(values) - 1)]) for s in shares]


def _found(sample: Sample) -> str:
    return f"values {sample.low:g} to {sample.high:g}"


def _written(value_range: Range) -> str:
    return f"{value_range[0]:g} {value_range[1]:g}"
