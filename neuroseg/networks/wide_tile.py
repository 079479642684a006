"""Windows of a network and their context -> an output tile of which a GPU computes little in vain.

The context around an output tile is computed, then discarded. So a wide tile needs fewer operations for each voxel that
is kept, but more memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.geometry import Triple, triple
from neuroseg.networks.card import TileCard
from neuroseg.networks.windows import MOST_WINDOW_VOXELS, WIDEST_VOXELS, WindowRule

# A GPU should compute at most this many voxels for each voxel that it keeps.
MOST_COMPUTED_PER_KEPT = 2.0
# Rounding must not exclude a tile with exactly this ratio.
_ROUNDING = 1e-9


def gpu_tile(rule: WindowRule, tile: TileCard) -> TileCard | None:
    """Return a tile for GPUs with the context of `tile`, see `wide_tile`. None if it would equal `tile`.

    Its blend is `centre`: wide windows overlap little, so there is almost nothing to blend.
    """
    output = wide_tile(rule, tile.context_voxels, tile.output_voxels)
    if output is None:
        return None
    wide = TileCard(output_voxels=output, context_voxels=tile.context_voxels)
    return None if wide == tile else wide


def wide_tile(rule: WindowRule, context: Triple, least: Triple, most_voxels: int = MOST_WINDOW_VOXELS) -> Triple | None:
    """Return the output tile (z, y, x) with the smallest window of all that compute at most twice the voxels they keep.

    The tiles considered are at least as wide as `least`, and the network accepts their windows, which contain at most
    `most_voxels` voxels. Their sides along y and x are equal, because test-time augmentation exchanges these axes. If
    all of them compute more than twice the voxels they keep, return the one that computes least. None if there are no
    tiles.

    A wider tile computes fewer voxels in vain and needs more memory. So for each depth, the best side is the smallest
    one that is wide enough. All depths are compared.
    """
    depths, sides = accepted_widths(rule, context, least, (0,)), accepted_widths(rule, context, least, (1, 2))
    windows = depths + 2 * context[0]
    areas = (sides + 2 * context[1]) * (sides + 2 * context[2])
    deep, flat = windows / depths, areas / sides**2
    # For each depth, the places in `sides` of the largest side that fits, and of the smallest that is wide enough.
    largest = np.searchsorted(areas, most_voxels // windows, side="right") - 1
    smallest = np.searchsorted(-flat, -MOST_COMPUTED_PER_KEPT * (1 + _ROUNDING) / deep)
    enough, fits = smallest <= largest, largest >= 0
    if enough.any():
        depth, side = depths[enough], smallest[enough]
        best = int(np.argmin(windows[enough] * areas[side]))
    elif fits.any():
        depth, side = depths[fits], largest[fits]
        best = int(np.argmin(deep[fits] * flat[side]))
    else:
        return None
    return triple([depth[best], sides[side[best]], sides[side[best]]])


def accepted_widths(rule: WindowRule, context: Triple, least: Triple, axes: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the widths of an output tile, in ascending order, that are possible on all of these axes."""
    widths = np.arange(max(least[axis] for axis in axes), WIDEST_VOXELS + 1, dtype=np.int64)
    for axis in axes:
        windows = widths + 2 * context[axis]
        widths = widths[rule.allows_on(axis, windows)]
    return widths
