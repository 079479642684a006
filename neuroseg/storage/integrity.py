"""Find damaged artifacts: wrong checksums, wrong lengths and missing parts of tables.

A missing shard reads as zeros and is not found here. The counts in done marks reveal it (stored.py).
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
from neuroseg.geometry import Box
from neuroseg.storage.arrays import zarr_store
from neuroseg.storage.parts import stored_table
from neuroseg.storage.remote import read_errors
from neuroseg.storage.stored import artifact_at
from neuroseg.storage.trees import Place


def damaged_blocks(path: Place, blocks: Iterable[Block]) -> list[Block]:
    """Return the blocks whose part of an artifact cannot be read.

    `path` is a zarr array, a folder with one file per block, or one file that belongs to all blocks. Return an empty
    list if there is no artifact, or if an array lacks its metadata, which belong to no single block.
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
        except (*read_errors(), KeyError, zarr.errors.NodeNotFoundError):
            return []
        return [block for block in blocks if not _reads(array, artifact.part_of(block))]
    return [block for block in blocks if not all(map(_is_whole, artifact.files(block)))]


def _reads(array: Any, box: Box) -> bool:
    """Whether all checksums are right. A disk or server that does not answer does not count as damage."""
    try:
        array[(..., *(slice(begin, end) for begin, end in box))]
    except (ValueError, RuntimeError):
        return False
    except read_errors():
        return True
    return True


def _is_whole(path: Place) -> bool:
    """Whether a table's file exists and can be read. A `.npy` file must have the length that its header states."""
    try:
        if path.suffix == ".npy":
            _require_length(path)
        else:
            stored_table(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno is not None  # errors of the system have a number, a wrong checksum has none
    except (pa.ArrowException, ValueError, EOFError):
        return False
    return True


def _require_length(path: Place) -> None:
    """Raise ValueError unless an array's file has the length that its header states."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        wanted = file.tell() + math.prod(shape) * dtype.itemsize
        if file.seek(0, os.SEEK_END) != wanted:
            raise ValueError(f"{path} has {file.tell()} bytes, expected {wanted} from its header")
