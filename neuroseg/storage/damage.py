"""Finds what a crash, a disk or a hand damaged: artifacts whose checksums or lengths are wrong, or parts that are gone.

A shard that is gone cannot be told from one that holds nothing but zeros, which is never written.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from neuroseg.blocks import Block
from neuroseg.geometry import slices
from neuroseg.storage.arrays import is_array, open_node
from neuroseg.storage.parts import part_path, stored_table


def damaged_blocks(path: Path, blocks: Iterable[Block]) -> list[Block]:
    """Return the blocks whose share of an artifact cannot be read; none where there is no such artifact.

    `path` is a zarr array, a folder of one part for each block, or one file that belongs to all of the blocks.
    """
    if is_array(path):
        return [block for block in blocks if not _reads(path, block)]
    if path.is_dir():
        return [block for block in blocks if not _is_whole(part_path(path, block.index))]
    return list(blocks) if path.exists() and not _is_whole(path) else []


def _reads(path: Path, block: Block) -> bool:
    try:
        open_node(path)[(..., *slices(block.write_roi))]
    except (OSError, ValueError, RuntimeError):
        return False
    return True


def _is_whole(path: Path) -> bool:
    """Whether a table's file is there and reads; a mapped one must be as long as it says."""
    try:
        if path.suffix == ".npy":
            np.load(path, mmap_mode="r")
        else:
            stored_table(path)
    except (pa.ArrowException, OSError, ValueError):
        return False
    return True
