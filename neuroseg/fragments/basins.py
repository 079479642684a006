"""Heights -> fragments of one block, with exits and entries.

Every voxel points to its neighbour of steepest ascent. A voxel without a higher neighbour is a root: its fragment is
named by the global linear index of the root + 1. A path that leaves the write region of the block ends at the first
voxel outside. This voxel gives the fragment a provisional name:

    block A          | block B                       names in A:  a -> e + 1  (e lies outside A: an exit)
    a  ->  ->  ->  ->| e  ->  ->  r                  names in B:  e -> r + 1,   entry table of B:  e + 1 -> r + 1

The entry table lists the voxels of the block to which voxels of neighbouring blocks point. Following exits through the
entry tables of other blocks leads to the name of the root, for paths of any length: see edges/rename.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.fragments.heights import UNSEGMENTED, heights
from neuroseg.fragments.pointers import OUTSIDE, moves, pointers
from neuroseg.fragments.settings import BasinSettings
from neuroseg.geometry import Triple, contact_channels, grown, slices, triple
from neuroseg.kernels import compiled


@dataclass(frozen=True)
class BlockFragments:
    """Fragment names `(z, y, x)` uint64 of the write region, and the entry table: voxel index + 1 -> its name."""

    names: NDArray[np.uint64]
    entry_voxels: NDArray[np.uint64]
    entry_names: NDArray[np.uint64]


def block_fragments(
    affinities: NDArray[np.uint8],
    *,
    offsets: tuple[Triple, ...],
    read_roi: Roi,
    write_roi: Roi,
    bounds: Roi,
    volume_shape: Triple,
    settings: BasinSettings,
    mask: NDArray[np.bool_] | None = None,
) -> BlockFragments:
    """Return the fragments of `write_roi` from the affinities `(c, z, y, x)` uint8 of `read_roi`.

    `read_roi` is `write_roi` grown by the halo of the settings and clipped to `bounds`, the segmented region. Names are
    linear indices in the volume of `volume_shape`. Paths do not leave `bounds`.

    If `mask` (of `read_roi`) is false at a voxel, its affinities count as 0, its fragment is 0 and no path passes it.
    Voxels with a mean affinity below `settings.mask_boundary` also get fragment 0 and are not passed.
    """
    if mask is not None:
        affinities = affinities * mask
    channels = contact_channels(offsets)
    links = stored_links(read_roi, volume_shape, offsets, channels)
    shell = grown(write_roi, [1 if axis in settings.axes else 0 for axis in range(3)], bounds)
    framed = _framed_heights(affinities, channels, links, read_roi, shell, settings, mask)
    codes = pointers(framed, settings)
    origin, extent = np.array(shell.begin, np.int64) - 1, np.array(volume_shape, np.int64)
    begin, end = np.array(write_roi.begin, np.int64) - origin, np.array(write_roi.end, np.int64) - origin
    names = _named(codes, moves(codes.shape), begin, end, origin, extent)
    voxels = np.flatnonzero(_entered(codes, begin, end))
    return BlockFragments(names, _indices(voxels, write_roi, volume_shape), names.reshape(-1)[voxels])


def stored_links(roi: Roi, volume_shape: Triple, offsets: tuple[Triple, ...], channels: Triple) -> NDArray[np.int64]:
    """Return `(3, longest axis)`: for each axis and coordinate, the place in `roi` at which the link is stored.

    The link between v and v + offset is stored at v. If v + offset is outside the volume, use the link between
    v - offset and v, stored at v - offset. Return -1 if that is also outside `roi`: the region is one voxel thick.
    """
    out = np.full((3, max(roi.shape)), -1, np.int64)
    for axis in range(3):
        size, step = roi.shape[axis], offsets[channels[axis]][axis]
        at = np.arange(size)
        partner = at + roi.begin[axis] + step
        at = np.where((partner < 0) | (partner >= volume_shape[axis]), at - step, at)
        out[axis, :size] = np.where((at >= 0) & (at < size), at, -1)
    return out


def _framed_heights(
    affinities: NDArray[np.uint8],
    channels: Triple,
    links: NDArray[np.int64],
    read_roi: Roi,
    shell: Roi,
    settings: BasinSettings,
    mask: NDArray[np.bool_] | None,
) -> NDArray[np.int32]:
    """Return the heights of `shell` and of one more voxel on each side. Voxels outside `read_roi` are UNSEGMENTED."""
    framed_roi = shell.grow((1, 1, 1), (1, 1, 1))
    known = framed_roi.intersect(read_roi)
    framed = np.full(tuple(framed_roi.shape), UNSEGMENTED, np.int32)
    raised = heights(affinities, channels, links, triple(read_roi.begin), settings, known - read_roi.begin)
    if mask is not None:
        raised[~mask[slices(known, read_roi.begin)]] = UNSEGMENTED
    framed[slices(known, framed_roi.begin)] = raised
    return framed


def _indices(voxels: NDArray[np.int64], roi: Roi, volume_shape: Triple) -> NDArray[np.uint64]:
    """Return the names of voxels as roots: their linear index in the volume + 1. `voxels` are indices in `roi`."""
    places = [at + begin for at, begin in zip(np.unravel_index(voxels, roi.shape), roi.begin, strict=True)]
    names: NDArray[np.uint64] = np.ravel_multi_index(places, volume_shape).astype(np.uint64) + np.uint64(1)
    return names


@compiled
def _named(codes, moves, begin, end, origin, volume_shape):  # type: ignore[no-untyped-def]
    """Names `(z, y, x)` of the block, which is `begin` to `end` in `codes`.

    Each voxel of the block points to another one, until all point to the end of their path: a root, or a voxel outside
    the block. A voxel without a fragment gets 0, and no path leads to it.
    """
    _, height, width = codes.shape
    flat = codes.reshape(-1)
    rows = [(z * height + y) * width + begin[2] for z in range(begin[0], end[0]) for y in range(begin[1], end[1])]
    length = end[2] - begin[2]
    targets = np.arange(len(flat)).astype(np.int32)
    for row in rows:
        _point(flat[row : row + length], moves, targets[row : row + length])
    # Most paths end after both sweeps, since a sweep follows all steps against its direction.
    for row in rows[::-1]:
        for at in range(row + length - 1, row - 1, -1):
            targets[at] = targets[targets[at]]
    for row in rows:
        for at in range(row, row + length):
            targets[at] = targets[targets[at]]
    names = np.empty((end[0] - begin[0], end[1] - begin[1], length), np.uint64)
    named = names.reshape(-1, length)
    first_names = _first_names(codes.shape, origin, volume_shape)
    for n, row in enumerate(rows):
        _follow(targets, row, row + length)
        _name(targets[row : row + length], flat[row : row + length], first_names, width, named[n])
    return names


@compiled
def _point(codes, moves, targets):  # type: ignore[no-untyped-def]
    for i in range(len(targets)):
        if codes[i] != OUTSIDE:
            targets[i] += moves[codes[i]]


@compiled
def _follow(targets, first, last):  # type: ignore[no-untyped-def]
    """Point the voxels of a row to the ends of their paths."""
    for at in range(first, last):
        here = targets[at]
        while targets[here] != here:
            here = targets[here]
        targets[at] = here


@compiled
def _first_names(shape, origin, volume_shape):  # type: ignore[no-untyped-def]
    """The name of the first voxel of each row as a root: its linear index in the volume + 1."""
    out = np.empty(shape[0] * shape[1], np.int64)
    for z in range(shape[0]):
        for y in range(shape[1]):
            first = ((z + origin[0]) * volume_shape[1] + y + origin[1]) * volume_shape[2] + origin[2] + 1
            out[z * shape[1] + y] = first
    return out


@compiled
def _name(targets, codes, first_names, width, names):  # type: ignore[no-untyped-def]
    """Names of a row of voxels."""
    inverse = 1 / width
    for i in range(len(names)):
        row = np.int64((targets[i] + 0.5) * inverse)  # the row of the target, faster than an integer division
        name = first_names[row] + targets[i] - row * width
        names[i] = np.uint64(name) if codes[i] != OUTSIDE else np.uint64(0)


@compiled
def _entered(codes, begin, end):  # type: ignore[no-untyped-def]
    """Whether a voxel of the surrounding shell points to each voxel of the block, `(z, y, x)`."""
    out = np.zeros((end[0] - begin[0], end[1] - begin[1], end[2] - begin[2]), np.bool_)
    depth, height, width = codes.shape
    for z0 in range(1, depth - 1):
        for y0 in range(1, height - 1):
            in_plane = begin[0] <= z0 < end[0] and begin[1] <= y0 < end[1]
            x0 = 1
            while x0 < width - 1:
                if in_plane and begin[2] <= x0 < end[2]:
                    x0 = end[2]
                    continue
                code = np.int64(codes[z0, y0, x0])
                if code != OUTSIDE:
                    z, y, x = z0 + code // 9 - 1, y0 + code // 3 % 3 - 1, x0 + code % 3 - 1
                    if begin[0] <= z < end[0] and begin[1] <= y < end[1] and begin[2] <= x < end[2]:
                        out[z - begin[0], y - begin[1], x - begin[2]] = True
                x0 += 1
    return out
