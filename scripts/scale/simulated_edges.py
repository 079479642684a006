"""Tables of edges and fragments of a simulated volume, block by block, without a volume.

Fragments fill a grid of cells of 17 voxels. Each touches its face neighbours and about half of its neighbours across
cell edges, 12 in all. Neurons run along z, 6 x 6 cells wide, through all groups of blocks. Affinities are high within
them and low between them. All values come from hashes of cells, so any block can be made without the others, and there
are many ties.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroseg.blocks import Block
from neuroseg.geometry import Triple
from neuroseg.tables import EDGES, NODES, Table, combined

CELL_VOXELS = 17
EDGES_A_CELL = 6
_NEURON_CELLS = 6
_FACES = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
_ACROSS = [(1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1)]

Numbers = NDArray[np.int64]


def block_tables(block: Block, cells: Triple) -> tuple[Table, Table]:
    """Return the tables of edges and fragments of a block of a volume with `cells` fragments along z, y and x."""
    first = [begin // CELL_VOXELS - 1 for begin, _ in block.write_box]
    last = [-(-end // CELL_VOXELS) for _, end in block.write_box]
    ranges = [np.arange(max(0, low), min(high, count)) for low, high, count in zip(first, last, cells, strict=True)]
    own = np.stack([axis.ravel() for axis in np.meshgrid(*ranges, indexing="ij")], axis=1)
    parts = [_edges(own, step, block, cells) for step in (*_FACES, *_ACROSS)]
    return combined(parts, EDGES), _nodes(own, block, cells)


def _edges(own: Numbers, step: Triple, block: Block, cells: Triple) -> Table:
    """Return the contacts that lie in a block, between each cell and the one a step further."""
    other = own + np.array(step)
    is_there = ((other >= 0) & (other < np.array(cells))).all(axis=1)
    own, other = own[is_there], other[is_there]
    seeds = _hashed(_index(own, cells) * np.int64(31) + _FACES_AND_ACROSS[step])
    if step in _ACROSS:
        chosen = seeds % np.uint64(2) == 0
        own, other, seeds = own[chosen], other[chosen], seeds[chosen]
    # The shared face (or edge) of the two cells. Its first and last voxel hold half of the contacts each.
    low = np.maximum(own, other) * CELL_VOXELS
    high = (np.minimum(own, other) + 1) * CELL_VOXELS - 1
    ends = [np.where(np.array(step) != 0, low, np.where(side, high, low)) for side in (False, True)]
    count = np.where(step in _FACES, 60, 8) + (seeds >> np.uint64(8)).astype(np.int64) % 40
    same = (_neuron(own) == _neuron(other)).all(axis=1)
    noise = (seeds >> np.uint64(16)).astype(np.int64) % 16
    value = np.where(same, 140 + 7 * noise, 8 * noise)
    held = sum(_is_in(end, block).astype(np.int64) for end in ends)
    rows = held > 0
    contacts = (count * held)[rows]
    one, another = _ids(own[rows], cells), _ids(other[rows], cells)
    return {
        "u": np.minimum(one, another), "v": np.maximum(one, another),
        "contact_count": contacts.astype(np.uint64), "affinity_sum": (contacts * value[rows]).astype(np.uint64),
        "affinity_max": np.minimum(255, value[rows] + 10).astype(np.uint8),
    }  # fmt: skip


def _nodes(own: Numbers, block: Block, cells: Triple) -> Table:
    """Return the parts of the fragments that lie in a block."""
    box = np.array(block.write_box)
    begin = np.maximum(own * CELL_VOXELS, box[:, 0])
    end = np.minimum((own + 1) * CELL_VOXELS, box[:, 1])
    held = (begin < end).all(axis=1)
    own, begin, end = own[held], begin[held], end[held]
    voxels = (end - begin).prod(axis=1)
    table = {"fragment": _ids(own, cells), "voxel_count": voxels.astype(np.uint64)}
    for axis, name in enumerate("zyx"):
        sums = voxels * (begin[:, axis] + end[:, axis] - 1) // 2
        table[f"sum_{name}"] = sums.astype(np.uint64)
        table[f"min_{name}"] = begin[:, axis].astype(np.uint32)
        table[f"max_{name}"] = (end[:, axis] - 1).astype(np.uint32)
    return combined([table], NODES)


def _is_in(voxels: Numbers, block: Block) -> NDArray[np.bool_]:
    box = np.array(block.write_box)
    return ((voxels >= box[:, 0]) & (voxels < box[:, 1])).all(axis=1)  # type: ignore[no-any-return]


def _neuron(own: Numbers) -> Numbers:
    return own[:, 1:] // _NEURON_CELLS


def _index(own: Numbers, cells: Triple) -> Numbers:
    return (own[:, 0] * cells[1] + own[:, 1]) * cells[2] + own[:, 2]


def _ids(own: Numbers, cells: Triple) -> NDArray[np.uint64]:
    """Return the names of fragments: the index of the middle voxel + 1."""
    middle = own * CELL_VOXELS + CELL_VOXELS // 2
    shape = [count * CELL_VOXELS for count in cells]
    return ((middle[:, 0] * shape[1] + middle[:, 1]) * shape[2] + middle[:, 2] + 1).astype(np.uint64)


def _hashed(numbers: Numbers) -> NDArray[np.uint64]:
    """Return random-looking numbers (splitmix64)."""
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


_FACES_AND_ACROSS = {step: np.int64(number) for number, step in enumerate((*_FACES, *_ACROSS))}
