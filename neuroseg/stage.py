"""The interface of a stage: everything that an executor may use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from neuroseg.blocks import Block, Lattice
from neuroseg.geometry import Triple

Finish = Callable[[], None]
"""Completes a block that `Process` began."""

Process = Callable[[Block], Finish | None]
"""Processes a block, or begins it and returns the function that completes it.

An executor may begin the next block in another thread before it completes this one. So one block is read while another
is computed or written."""


class Stage(Protocol):
    """One step of the pipeline over the blocks of a lattice.

    A stage reads only `read_roi` of its `inputs`. For each block it writes only results of `write_roi`, in one step. If
    a block is recomputed, it writes the same bytes. A reduce is a stage with one block, or one per partition.
    """

    @property
    def name(self) -> str:
        """The name of the stage, its folder, its ledger and its configuration section."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """The artifacts that the stage reads."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """The artifacts that the stage writes."""
        ...

    @property
    def lattice(self) -> Lattice:
        """The blocks, in voxels of the volume; `lattice.block_shape` is the stage's write shape.

        An output with larger voxels states their size in the attribute `downsampling` (storage/stored.py).
        """
        ...

    @property
    def halo(self) -> Triple:
        """The width of the context that the stage reads around a block, in voxels."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """Every parameter that affects the stage's bytes, including its algorithm number."""
        ...

    @property
    def scope(self) -> str:
        """Anything else that affects a block's bytes but is not a parameter, such as the region of interest."""
        ...

    def prepare(self) -> None:
        """Create the outputs. Called once, before any block runs. Keeps existing outputs of the same layout."""
        ...

    def open(self) -> AbstractContextManager[Process]:
        """Set up once per worker. Yields the function that processes a block."""
        ...
