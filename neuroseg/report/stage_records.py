"""The ledger of a stage -> how its blocks went: counts, times, memory, failures and stored bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroseg.execution.block import ledger_of
from neuroseg.geometry import Triple
from neuroseg.stage import Stage
from neuroseg.storage.done_table import DoneRecords
from neuroseg.storage.ledger import StoredBlocks
from neuroseg.storage.workspace import Workspace
from neuroseg.views.block_map import DONE, FAILED, LEFT

# Stages with one block, the whole region.
_NOT_IN_SPACE = ("agglomeration", "lookup")


@dataclass(frozen=True)
class StageRecords:
    """How the blocks of one stage went, over all runs in the workspace.

    `indices` `(n,)`, `seconds` `(n,)` and `peak_mib` `(n,)` describe the done blocks. `left` are the blocks that are
    not done, `failures` the cause of each failed one. `elapsed_s` is from the first block to the last, with pauses
    between runs. `stored` has the bytes of each artifact.
    """

    name: str
    counts: Triple
    block_shape: Triple
    indices: NDArray[np.int64]
    seconds: NDArray[np.float64]
    peak_mib: NDArray[np.float64]
    voxels: int
    elapsed_s: float
    workers: int
    hosts: tuple[str, ...]
    devices: tuple[str, ...]
    left: tuple[int, ...]
    failures: Mapping[int, str]
    stored: Mapping[str, int]
    is_begun: bool

    @property
    def blocks(self) -> int:
        """The number of blocks, done or not."""
        return len(self.indices) + len(self.left)

    @property
    def has_place(self) -> bool:
        """Whether the blocks are parts of the volume at full resolution."""
        return self.name not in _NOT_IN_SPACE and not self.name.startswith("pyramid")

    @property
    def has_map(self) -> bool:
        """Whether a map of its blocks shows more than the table of stages."""
        return self.name not in _NOT_IN_SPACE and self.is_begun and self.blocks > 1

    def states(self) -> NDArray[np.uint8]:
        """Return the state of each block `(z, y, x)` of the volume (views/block_map.py)."""
        states = np.zeros(math.prod(self.counts), np.uint8)
        states[self.indices] = DONE
        states[np.array(self.left, np.int64)] = LEFT
        states[np.array(list(self.failures), np.int64)] = FAILED
        return states.reshape(self.counts)

    def on_lattice(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one number per done block as an array `(z, y, x)`. NaN for other blocks."""
        numbers = np.full(math.prod(self.counts), np.nan)
        numbers[self.indices] = values
        return numbers.reshape(self.counts)


def stage_records(workspace: Workspace, stage: Stage) -> StageRecords:
    """Return the records of a stage. Blocks outside the region or the mask are not counted."""
    ledger = ledger_of(workspace, stage)
    blocks = stage.lattice.blocks(stage.halo)
    pending = ledger.pending(blocks).indices
    wanted = blocks.where(~np.isin(blocks.indices, pending))
    records = ledger.done_records()
    records = records.where(np.isin(records.blocks, wanted.indices))
    common = [records.common[number] for number in np.unique(records.about)]
    left = dict.fromkeys(pending.tolist())
    failures = {index: cause for index, cause in ledger.failures().items() if index in left}
    return StageRecords(
        stage.name,
        stage.lattice.counts,
        stage.lattice.block_shape,
        records.blocks,
        records.seconds,
        records.peak_mib.astype(np.float64),
        int(records.voxels.sum()),
        _elapsed(records),
        len({(each.host, each.process) for each in common}),
        tuple(sorted({each.host for each in common if each.host})),
        tuple(sorted({each.device for each in common if each.device})),
        tuple(left),
        failures,
        _stored(stage, ledger.stored(wanted)),
        ledger.is_claimed(),
    )


def _elapsed(records: DoneRecords) -> float:
    if not len(records):
        return 0.0
    return float(records.times.max() - (records.times - records.seconds).min())


def _stored(stage: Stage, stored: StoredBlocks) -> dict[str, int]:
    """Return the bytes of each artifact of a stage. Deleted blocks count nothing."""
    totals = stored.sizes.sum(axis=0).tolist()
    return dict.fromkeys(stage.outputs, 0) | dict(zip(stage.outputs, totals, strict=False))
