"""A neuron of a reference, and another segmentation -> the places where this splits or merges the neuron."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from neuroseg.evaluation.contingency import contingency
from neuroseg.geometry import Triple, triple
from neuroseg.tables import Table

# The common part of a segment and an object counts if it has at least this share of the neuron's voxels, and at least
# this share of the smaller of the two. Less is an inexact border, not an error.
OF_NEURON, OF_SMALLER = 0.01, 0.1


@dataclass(frozen=True)
class NeuronError:
    """One error. `split`: `segment` is not the largest piece of the neuron. `merge`: it also covers `other`.

    `voxels`: of the piece of the neuron, or of the part of `other`. `place`: a voxel (z, y, x) of the arrays.
    """

    error: str
    segment: int
    other: int
    voxels: int
    place: Triple


def pieces_of(segments: NDArray[np.uint64], reference: NDArray[np.uint64], neuron: int) -> list[int]:
    """Return the segments that share a part with a neuron that counts, the largest part first. Never segment 0."""
    table = _counted(segments, reference, neuron)
    own = table["truth"] == np.uint64(neuron)
    order = np.lexsort((table["segment"][own], -table["count"][own].astype(np.int64)))
    return [int(segment) for segment in table["segment"][own][order]]


def neuron_errors(segments: NDArray[np.uint64], reference: NDArray[np.uint64], neuron: int) -> tuple[NeuronError, ...]:
    """Return the errors of `segments` at object `neuron` of `reference`: splits, then merges, the largest first.

    Both arrays are `(z, y, x)`. Each piece of the neuron except the largest is a split. Each other object with which a
    piece's segment shares a part that counts is a merge. Of this piece or part, the place is the middle of the voxels
    that are nearest to the rest. Voxels that are 0 in one of the arrays are ignored.
    """
    pieces = pieces_of(segments, reference, neuron)
    table = _counted(segments, reference, neuron)
    inside = reference == np.uint64(neuron)
    rows = list(zip(*(table[name].tolist() for name in ("segment", "truth", "count")), strict=True))
    errors = []
    for segment, true, voxels in rows:
        if true == neuron and segment in pieces[1:]:
            part = inside & (segments == np.uint64(segment))
            rest = inside & ~part & np.isin(segments, np.array(pieces, np.uint64))
            errors.append(NeuronError("split", segment, true, voxels, _nearest(part, rest)))
        elif true != neuron and segment in pieces:
            own = segments == np.uint64(segment)
            part = own & (reference == np.uint64(true))
            errors.append(NeuronError("merge", segment, true, voxels, _nearest(part, own & inside)))
    return tuple(sorted(errors, key=lambda each: (each.error != "split", -each.voxels, each.segment, each.other)))


def _nearest(part: NDArray[np.bool_], rest: NDArray[np.bool_]) -> Triple:
    """Return a voxel of `part`: of those with the least distance to `rest` in voxels, the one in their middle."""
    distances = distance_transform_edt(~rest)
    voxels = np.argwhere(part)
    found = distances[part]
    nearest = voxels[found <= found.min()]
    middle = ((nearest - nearest.mean(axis=0)) ** 2).sum(axis=1).argmin()
    return triple(nearest[middle])


def _counted(segments: NDArray[np.uint64], reference: NDArray[np.uint64], neuron: int) -> Table:
    """Return the rows of the contingency table that count (OF_NEURON, OF_SMALLER), without label 0."""
    table = contingency(segments, reference)
    table = {name: column[table["segment"] != 0] for name, column in table.items()}
    count = table["count"].astype(np.float64)
    sizes = []
    for name in ("segment", "truth"):
        _, rows = np.unique(table[name], return_inverse=True)
        sizes.append(np.bincount(rows, count)[rows] if len(rows) else count)
    total = count[table["truth"] == np.uint64(neuron)].sum()
    wanted = (count >= OF_NEURON * total) & (count >= OF_SMALLER * np.minimum(*sizes))
    return {name: column[wanted] for name, column in table.items()}
