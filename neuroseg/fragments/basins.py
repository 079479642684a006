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

import itertools
from dataclasses import dataclass

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.fragments.heights import heights
from neuroseg.fragments.settings import BasinSettings
from neuroseg.geometry import Triple, contact_channels, grown, slices, triple
from neuroseg.kernels import compiled

_ROOT = 13
_UNSEGMENTED = -1


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
    raised = heights(affinities, channels, links, triple(read_roi.begin), settings)
    if mask is not None:
        raised[~mask] = -np.inf
    shell = grown(write_roi, [1 if axis in settings.axes else 0 for axis in range(3)], bounds)
    pointers = _pointers(_with_frame(raised, read_roi, shell), *_neighbours(settings))
    origin, extent = np.array(shell.begin, np.int64), np.array(volume_shape, np.int64)
    begin = np.array(write_roi.begin, np.int64) - origin
    end = np.array(write_roi.end, np.int64) - origin
    names = _named(pointers, begin, end, origin, extent)
    voxels, entered = _entries(pointers, names, begin, end, origin, extent)
    order = np.unique(voxels, return_index=True)[1]
    return BlockFragments(names[slices(write_roi, shell.begin)].copy(), voxels[order], entered[order])


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


def _with_frame(raised: NDArray[np.float32], read_roi: Roi, shell: Roi) -> NDArray[np.float32]:
    """Return the heights of `shell` grown by one voxel on each side. Voxels outside `read_roi` are minus infinity."""
    framed_roi = shell.grow((1, 1, 1), (1, 1, 1))
    known = framed_roi.intersect(read_roi)
    framed = np.full(tuple(framed_roi.shape), -np.inf, np.float32)
    framed[slices(known, framed_roi.begin)] = raised[slices(known, read_roi.begin)]
    return framed


def _neighbours(settings: BasinSettings) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the steps to the neighbours `(n, 3)` and the reciprocals of their lengths `(n,)`."""
    reach = [(-1, 0, 1) if axis in settings.axes else (0,) for axis in range(3)]
    steps = [step for step in itertools.product(*reach) if any(step)]
    lengths = [
        np.sqrt(sum((s * edge) ** 2 for s, edge in zip(step, settings.voxel_size, strict=True))) for step in steps
    ]
    return np.array(steps, np.int64), (1 / np.array(lengths)).astype(np.float32)


@compiled
def _pointers(framed, steps, slopes):  # type: ignore[no-untyped-def]
    """Code of the neighbour of steepest ascent, 9 (dz + 1) + 3 (dy + 1) + dx + 1. 13: root, -1: no fragment.

    Among equally steep neighbours, the one with the smallest global index is chosen: steps are sorted by the index that
    they add. On a plateau, a voxel points only to neighbours with a smaller index. So (height, -index) increases along
    every path, and there are no cycles.
    """
    depth, height, width = framed.shape[0] - 2, framed.shape[1] - 2, framed.shape[2] - 2
    pointers = np.empty((depth, height, width), np.int8)
    best, codes = np.empty(width, np.float32), np.empty(width, np.int32)
    half = len(steps) // 2
    for z in range(depth):
        for y in range(height):
            best[:] = 0
            codes[:] = _ROOT
            here = framed[z + 1, y + 1, 1 : width + 1]
            for n in range(len(steps)):
                dz, dy, dx = steps[n]
                there = framed[z + 1 + dz, y + 1 + dy, 1 + dx : width + 1 + dx]
                code = np.int32(9 * (dz + 1) + 3 * (dy + 1) + dx + 1)
                _update_pointers(here, there, slopes[n], code, n < half, best, codes)
            for x in range(width):
                if here[x] == -np.inf:
                    codes[x] = _UNSEGMENTED
            pointers[z, y] = codes
    return pointers


@compiled
def _update_pointers(here, there, slope, code, follows_plateau, best, codes):  # type: ignore[no-untyped-def]
    """Point the voxels of a row to one of their neighbours if it is the steepest so far. Both loops are vectorised."""
    if follows_plateau:
        for x in range(len(here)):
            rise = (there[x] - here[x]) * slope
            take = (rise > best[x]) | ((rise == best[x]) & (codes[x] == _ROOT))
            best[x] = rise if take else best[x]
            codes[x] = code if take else codes[x]
    else:
        for x in range(len(here)):
            rise = (there[x] - here[x]) * slope
            take = rise > best[x]
            best[x] = rise if take else best[x]
            codes[x] = code if take else codes[x]


@compiled
def _own_names(shape, begin, end, origin, volume_shape):  # type: ignore[no-untyped-def]
    """Names `(z, y, x)` of the shell: 0 in the block (begin to end), and the global linear index + 1 outside."""
    names = np.zeros(shape, np.uint64)
    for z in range(shape[0]):
        for y in range(shape[1]):
            first = ((z + origin[0]) * volume_shape[1] + y + origin[1]) * volume_shape[2] + origin[2] + 1
            in_plane = begin[0] <= z < end[0] and begin[1] <= y < end[1]
            for x in range(shape[2]):
                if not (in_plane and begin[2] <= x < end[2]):
                    names[z, y, x] = first + x
    return names


@compiled
def _named(pointers, begin, end, origin, volume_shape):  # type: ignore[no-untyped-def]
    """Names of the shell. Follow each path to its root or to a voxel with a name, then name all voxels of the path.

    Voxels outside the block already have names, so that paths end there. A voxel without a fragment keeps 0, and no
    path leads to it.
    """
    shape = pointers.shape
    names = _own_names(shape, begin, end, origin, volume_shape)
    flat, codes = names.reshape(-1), pointers.reshape(-1)
    moves = np.empty(27, np.int64)
    for code in range(27):
        moves[code] = ((code // 9 - 1) * shape[1] + code // 3 % 3 - 1) * shape[2] + code % 3 - 1
    for start in range(len(flat)):
        if codes[start] == _UNSEGMENTED:
            continue
        at = start
        while flat[at] == 0 and codes[at] != _ROOT:
            at += moves[codes[at]]
        if flat[at] == 0:
            z, y, x = at // (shape[1] * shape[2]), at // shape[2] % shape[1], at % shape[2]
            flat[at] = ((z + origin[0]) * volume_shape[1] + y + origin[1]) * volume_shape[2] + x + origin[2] + 1
        name = flat[at]
        at = start
        while flat[at] == 0:
            flat[at] = name
            at += moves[codes[at]]
    return names


@compiled
def _entries(pointers, names, begin, end, origin, volume_shape):  # type: ignore[no-untyped-def]
    """The voxels of the block to which voxels of the surrounding shell point, and their names. May repeat."""
    voxels = [np.uint64(0) for _ in range(0)]
    entered = [np.uint64(0) for _ in range(0)]
    depth, height, width = pointers.shape
    for z0 in range(depth):
        for y0 in range(height):
            in_plane = begin[0] <= z0 < end[0] and begin[1] <= y0 < end[1]
            x0 = 0
            while x0 < width:
                if in_plane and begin[2] <= x0 < end[2]:
                    x0 = end[2]
                    continue
                code = np.int64(pointers[z0, y0, x0])
                if code == _UNSEGMENTED:
                    x0 += 1
                    continue
                z, y, x = z0 + code // 9 - 1, y0 + code // 3 % 3 - 1, x0 + code % 3 - 1
                if begin[0] <= z < end[0] and begin[1] <= y < end[1] and begin[2] <= x < end[2]:
                    index = ((z + origin[0]) * volume_shape[1] + y + origin[1]) * volume_shape[2] + x + origin[2]
                    voxels.append(np.uint64(index + 1))
                    entered.append(names[z, y, x])
                x0 += 1
    return np.array(voxels, np.uint64), np.array(entered, np.uint64)
