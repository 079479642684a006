"""The hash of a done mark depends on identity, scope and each face of both regions, and is the same for many blocks."""

from __future__ import annotations

import itertools

import numpy as np
from funlib.geometry import Roi

from neuroseg.blocks import Block, Lattice
from neuroseg.storage.tokens import seed_of, token_of, tokens_of


def test_any_other_region_has_another_hash() -> None:
    seed = seed_of("{}", "")
    faces = list(itertools.combinations(range(4), 2))
    boxes = [(z, y, x) for z in faces for y in faces for x in faces]
    reads = [((0, 4), (0, 4), (0, 4)), ((0, 5), (0, 4), (0, 4)), ((0, 4), (0, 5), (0, 4)), ((0, 4), (0, 4), (0, 5))]
    tokens = [token_of(seed, Block(0, write, read)) for write in boxes for read in reads]
    assert len(set(tokens)) == len(boxes) * len(reads)
    assert all(2**63 <= token < 2**64 for token in tokens)


def test_other_settings_and_another_scope_have_another_hash() -> None:
    assert len({seed_of("{}", ""), seed_of("{}", "0:4"), seed_of('{"a": 1}', "")}) == 3


def test_the_hash_never_changes_between_versions() -> None:
    """Otherwise, all blocks of a run would be computed again."""
    block = Block(7, ((0, 4), (4, 8), (8, 9)), ((0, 6), (2, 10), (6, 9)))
    assert f"{token_of(seed_of('{}', 'scope'), block):x}" == "a8e34c8b14cffb29"


def test_many_blocks_have_the_hashes_of_each() -> None:
    lattice = Lattice((50, 40, 30), (7, 8, 9), Roi((3, 0, 5), (44, 39, 25)))
    blocks, seed = lattice.blocks((3, 2, 1)), seed_of("{}", "scope")
    expected = np.array([token_of(seed, block) for block in blocks], np.uint64)
    assert np.array_equal(tokens_of(seed, blocks), expected)
    assert np.array_equal(tokens_of(seed, list(blocks)), expected)
