"""Finds what a crash, a disk or a hand damaged: artifacts whose checksums or lengths are wrong, or parts that are gone.

A shard that is gone reads as zeros here; that it is missing is known from done marks (stored.py).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import zarr

from neuroseg.blocks import Block
from neuroseg.geometry import slices
from neuroseg.storage.arrays import zarr_store
from neuroseg.storage.parts import stored_table
from neuroseg.storage.remote import refusals
from neuroseg.storage.stored import artifact_at
from neuroseg.storage.trees import Place


def damaged_blocks(path: Place, blocks: Iterable[Block]) -> list[Block]:
    """Return the blocks whose share of an artifact cannot be read.

    `path` is a zarr array, a folder of one part for each block, or one file that belongs to all of the blocks. None are
    returned where there is no such artifact, or an array without its description: that belongs to every block.
    """
    try:
        artifact = artifact_at(path)
    except ValueError:
        return []
    if artifact is None:
        return []
    if artifact.shape is not None:
        try:
            array = zarr.open_array(store=zarr_store(path), mode="r")
        except (*refusals(), KeyError, zarr.errors.NodeNotFoundError):
            return []
        return [block for block in blocks if not _reads(array, block)]
    return [block for block in blocks if not all(map(_is_whole, artifact.files(block)))]


def _reads(array: Any, block: Block) -> bool:
    """Whether checksums are right; that a disk or server does not answer is another matter."""
    try:
        array[(..., *slices(block.write_roi))]
    except (ValueError, RuntimeError):
        return False
    except refusals():
        return True
    return True


def _is_whole(path: Place) -> bool:
    """Whether a table's file is there and reads; a mapped one must be as long as it says."""
    try:
        if path.suffix == ".npy":
            _require_length(path)
        else:
            stored_table(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno is not None  # the system's errors have a number; those of a wrong checksum have none
    except (pa.ArrowException, ValueError, EOFError):
        return False
    return True


def _require_length(path: Place) -> None:
    """Raise ValueError unless an array's file is as long as it says."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        wanted = file.tell() + math.prod(shape) * dtype.itemsize
        if file.seek(0, os.SEEK_END) != wanted:
            raise ValueError(f"{path} has {file.tell()} bytes; its header says {wanted}")
