"""The stage contract: what executors run, and all that they know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from neuroseg.blocks import Block, Lattice
from neuroseg.geometry import Triple

Finish = Callable[[], None]
"""Completes a block that was begun."""

Process = Callable[[Block], Finish | None]
"""Processes a block, or begins it and returns what completes it: an executor may meanwhile, in another thread, begin
the next, so that one block is read while another is computed or written."""


class Stage(Protocol):
    """One step of the pipeline over the blocks of a lattice.

    A stage reads only `inputs` and, of each block, `read_roi`; it writes only what belongs to `write_roi` of the block,
    in one step, and the same bytes when it is asked again. A reduce is a stage whose lattice has one block (or one per
    partition).
    """

    @property
    def name(self) -> str:
        """The stage's name: of its folder, its ledger, its section of the configuration."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """The artifacts it reads."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """The artifacts it writes."""
        ...

    @property
    def lattice(self) -> Lattice:
        """The blocks; `lattice.block_shape` is the stage's write shape."""
        ...

    @property
    def halo(self) -> Triple:
        """Voxels around a block that it reads."""
        ...

    @property
    def scale(self) -> Triple:
        """How many voxels of the volume one of its voxels spans; (1, 1, 1) but for levels of a pyramid."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """Every parameter whose change would change the stage's bytes, its algorithm number included."""
        ...

    @property
    def scope(self) -> str:
        """What beyond its own region a block's bytes depend on without being a parameter (the region of interest)."""
        ...

    def prepare(self) -> None:
        """Create the outputs, once, before any block runs; existing ones of the same layout are kept."""
        ...

    def open(self) -> AbstractContextManager[Process]:
        """Set up once per worker; yields the function that processes a block."""
        ...
