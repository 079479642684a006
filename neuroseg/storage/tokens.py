"""The hash of identity and regions that a done mark carries, of one block or of millions.

    hash = seed of identity and scope + sum of the 12 coordinates of the regions, each times its own factor   (mod 2^64)

Two regions of one block have different hashes except with a probability of 2^-63: the factors are as good as random.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuroseg.blocks import Block, Blocks

_MODULUS = 2**64
# The first bit is set, so that every hash has 16 digits.
_FIRST_BIT = 2**63
# The hashes of so many blocks are computed together, to need little memory for intermediate values.
_TOGETHER = 2**17


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


# One factor for each axis, and for begin and end of the written and the read region.
_FACTORS = [[_number(f"{axis} {face}") | 1 for face in range(4)] for axis in range(3)]


def seed_of(identity: str, scope: str) -> int:
    """Return the part of the hash that all blocks of a stage share."""
    return _number(f"{identity}\n{scope}")


def token_of(seed: int, block: Block) -> int:
    """Return the hash of a block."""
    total = seed
    for factors, written, read in zip(_FACTORS, block.write_box, block.read_box, strict=True):
        total += factors[0] * written[0] + factors[1] * written[1] + factors[2] * read[0] + factors[3] * read[1]
    return total % _MODULUS | _FIRST_BIT


def tokens_of(seed: int, blocks: Sequence[Block]) -> NDArray[np.uint64]:
    """Return the hash of each block."""
    if not isinstance(blocks, Blocks):
        return np.fromiter((token_of(seed, block) for block in blocks), np.uint64, len(blocks))
    parts = [_tokens(seed, blocks[begin : begin + _TOGETHER]) for begin in range(0, len(blocks), _TOGETHER)]
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def _tokens(seed: int, blocks: Blocks) -> NDArray[np.uint64]:
    total = np.full(len(blocks), seed, np.uint64)
    for axis, factors in enumerate(np.array(_FACTORS, np.uint64)):
        places, faces = blocks.along(axis)
        total += (faces.astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)[places]
    total |= np.uint64(_FIRST_BIT)
    return total
