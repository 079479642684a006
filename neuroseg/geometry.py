"""Voxels, nanometres and boxes: the one place that converts between them.

Inside the pipeline every region is a `Roi` in voxels of the full volume, axes z, y, x. Nanometres appear where volumes
are read, written and compared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from funlib.geometry import Coordinate, Roi

from neuroseg.errors import InputError

Triple = tuple[int, int, int]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Where a region begins and ends along z, y and x, in voxels."""
Nanometres = tuple[float, float, float]

_LARGEST_MISALIGNMENT_VOXELS = 1e-3


def triple(values: Sequence[int]) -> Triple:
    """Return three values as a tuple of plain integers; raises InputError when there are not three."""
    if len(values) != 3:
        raise InputError(f"three values (z, y, x) are needed, found {list(values)}")
    z, y, x = (int(value) for value in values)
    return (z, y, x)


def whole(shape: Sequence[int]) -> Roi:
    """Return the region of a whole volume of `shape`."""
    return Roi((0, 0, 0), tuple(shape))


def slices(roi: Roi, origin: Sequence[int] = (0, 0, 0)) -> tuple[slice, slice, slice]:
    """Return the slices of `roi` in an array whose first voxel lies at `origin`."""
    z, y, x = (
        slice(int(begin - start), int(end - start))
        for begin, end, start in zip(roi.begin, roi.end, origin, strict=True)
    )
    return (z, y, x)


def grown(roi: Roi, halo: Sequence[int], bounds: Roi) -> Roi:
    """Return `roi` grown by `halo` voxels on every side and clipped to `bounds`."""
    return roi.grow(Coordinate(halo), Coordinate(halo)).intersect(bounds)


def parse_triple(text: str, what: str, least: int = 1) -> Triple:
    """Return `N` or `Z,Y,X` as three integers of at least `least`; raises InputError naming `what` otherwise."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (1, 3) or not all(re.fullmatch(r"[+-]?\d+", part) for part in parts):
        raise InputError(f"{what} {text!r} is neither a number nor three (Z,Y,X), for example 256 or 64,256,256")
    values = [int(part) for part in parts]
    if min(values) < least:
        needed = "must be positive" if least == 1 else f"must be {least} or more"
        raise InputError(f"{what} {text!r} {needed}, for example 256 or 64,256,256")
    return triple(values * 3 if len(values) == 1 else values)


def parse_roi(text: str, shape: Sequence[int]) -> Roi:
    """Return `z0:z1,y0:y1,x0:x1` in voxels as a region of a volume of `shape`; a missing end means the volume's.

    Raises InputError when it is malformed, empty or not inside the volume.
    """
    parts = [part.strip() for part in text.split(",")]
    matches = [re.fullmatch(r"(-?\d+)?:(-?\d+)?", part) for part in parts]
    if len(parts) != 3 or not all(matches):
        raise InputError(f"ROI {text!r} is not of the form z0:z1,y0:y1,x0:x1 (voxels; an end may be left out)")
    begins, ends = [], []
    for match, size in zip(matches, shape, strict=True):
        assert match is not None
        begins.append(int(match[1] or 0))
        ends.append(int(match[2] or size))
    described = ",".join(f"0:{size}" for size in shape)
    if any(begin >= end for begin, end in zip(begins, ends, strict=True)):
        raise InputError(f"ROI {text!r} is empty; the volume is {described}")
    if any(begin < 0 or end > size for begin, end, size in zip(begins, ends, shape, strict=True)):
        raise InputError(f"ROI {text!r} reaches outside the volume {described}")
    return Roi(begins, [end - begin for begin, end in zip(begins, ends, strict=True)])


def describe(roi: Roi) -> str:
    """Return a region as `z0:z1,y0:y1,x0:x1`."""
    return ",".join(f"{begin}:{end}" for begin, end in zip(roi.begin, roi.end, strict=True))


def describe_box(box: Box) -> str:
    """Return where a region begins and ends as `z0:z1,y0:y1,x0:x1`."""
    return ",".join(f"{begin}:{end}" for begin, end in box)


def voxels_between(
    offset_nm: Sequence[float], other_offset_nm: Sequence[float], voxel_size_nm: Sequence[float]
) -> Triple:
    """Return how many voxels `offset_nm` lies past `other_offset_nm`; raises InputError when it is not whole voxels."""
    exact = (np.asarray(offset_nm, float) - np.asarray(other_offset_nm, float)) / np.asarray(voxel_size_nm, float)
    rounded = np.round(exact)
    if np.abs(exact - rounded).max() > _LARGEST_MISALIGNMENT_VOXELS:
        raise InputError(
            f"offsets {list(offset_nm)} nm and {list(other_offset_nm)} nm differ by {exact.tolist()} voxels "
            f"of {list(voxel_size_nm)} nm; a whole number is needed"
        )
    return triple([int(value) for value in rounded])


def parse_offsets(value: object) -> tuple[Triple, ...]:
    """Return affinity offsets given as nested lists of whole numbers, or as text `-1,0,0;0,-1,0;0,0,-1`."""
    try:
        rows: object = value
        if isinstance(value, str):
            rows = [[int(number) for number in row.split(",")] for row in value.replace(" ", "").split(";")]
        offsets = tuple(triple(row) for row in rows)  # type: ignore[attr-defined]
        if not offsets or any(int(step) != step for row in rows for step in row):  # type: ignore[attr-defined]
            raise ValueError("whole numbers are needed")
        return offsets
    except (TypeError, ValueError) as error:
        raise InputError(f"offsets {value!r} are not rows of z,y,x steps such as -1,0,0;0,-1,0;0,0,-1") from error


def contact_channels(offsets: Sequence[Triple]) -> tuple[int, int, int]:
    """Return which channel links direct neighbours along z, y and x; raises InputError when an axis has none.

    Of two channels along one axis the first is taken. A channel may point down (-1) or up (+1).
    """
    found: list[int] = []
    for axis in range(3):
        unit = [1 if a == axis else 0 for a in range(3)]
        channels = [c for c, offset in enumerate(offsets) if [abs(step) for step in offset] == unit]
        if not channels:
            raise InputError(f"no affinity channel links direct neighbours along {'zyx'[axis]}; offsets: {offsets}")
        found.append(channels[0])
    return (found[0], found[1], found[2])


def long_range_channels(offsets: Sequence[Triple]) -> tuple[int, ...]:
    """Return which channels link voxels that are not direct neighbours, in their order."""
    return tuple(c for c, offset in enumerate(offsets) if sum(abs(step) for step in offset) > 1)


def reach_of(offsets: Sequence[Triple]) -> Triple:
    """Return how many voxels the offsets reach along z, y and x."""
    return triple([max(abs(offset[axis]) for offset in offsets) for axis in range(3)])
