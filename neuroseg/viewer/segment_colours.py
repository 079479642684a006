"""The colours of fragments, segments and true objects in a viewer: those of the figures.

A figure colours ids 1..N of segmentation.zarr. A viewer names a segment after its smallest fragment, so that a segment
that a change of the threshold leaves alone keeps its name and its colour. So each name gets the colour of the id that
the segment has in segmentation.zarr. With truth, a correct segment has the colour of its true object.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.evaluation.contingency import CONTINGENCY
from neuroseg.tables import Table, combined
from neuroseg.viewer.cuts import Cut, Tree
from neuroseg.views.colours import colours_of, ids_as_truth

# Smaller ones have the colours that neuroglancer chooses.
_MOST = 20_000

Colours = dict[str, int]
"""The colour of each id, as neuroglancer stores it: red + 256 green + 65536 blue."""


def layer_colours(tree: Tree, stored: Cut, contingency: Table | None) -> dict[str, Colours]:
    """Return the colours of the largest fragments and segments, and of all true objects, by the name of their layer.

    `stored`: the cut that segmentation.zarr has. `contingency`: common voxels of fragments and truth, None without.
    """
    names = np.unique(stored.names[stored.names > 0])
    numbers = np.arange(1, len(names) + 1, dtype=np.uint64)
    drawn = numbers
    found: dict[str, Colours] = {}
    if contingency is not None:
        rows = tree.rows_of(contingency["segment"])
        named = np.where(rows >= 0, stored.names[rows], np.uint64(0))
        segments = np.where(named > 0, np.searchsorted(names, named).astype(np.uint64) + np.uint64(1), np.uint64(0))
        table = combined([{**contingency, "segment": segments}], CONTINGENCY)
        drawn = ids_as_truth(numbers, table)
        objects = np.unique(table["truth"])
        found["truth"] = _packed(objects, objects)
    largest = tree.largest(stored.names, _MOST)
    found["segmentation"] = _packed(largest, drawn[np.searchsorted(names, largest)])
    fragments = tree.largest(tree.fragments, _MOST)
    return {**found, "fragments": _packed(fragments, fragments)}


def colours_of_numbers() -> Colours:
    """Return the colours of segments 1, 2 ... without a merge tree: the viewer then shows the ids of the figures."""
    numbers = np.arange(1, _MOST + 1, dtype=np.uint64)
    return _packed(numbers, numbers)


def _packed(names: NDArray[np.uint64], drawn: NDArray[np.uint64]) -> Colours:
    """Return for each name the colour of a drawn id."""
    red, green, blue = np.round(255 * colours_of(drawn)[:, :3]).astype(int).T
    return dict(zip(map(str, names.tolist()), (red + 256 * green + 65536 * blue).tolist(), strict=True))
