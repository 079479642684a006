"""`--keep stream`: delete the affinities of a block as soon as all blocks that read them are done.

done marks + pending readers  ->  blocks without pending readers  ->  mark as released, delete the files

If a reader must run again, its released blocks are recomputed first (damage.py). If prediction is faster than the later
stages, it waits, so that it does not fill the disk.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from neuroseg.blocks import Block, Lattice
from neuroseg.execution.block import ledger_of
from neuroseg.execution.task import Task
from neuroseg.geometry import whole
from neuroseg.stage import Stage
from neuroseg.storage.stored import Artifact, Stored, artifact_at, file_size, remove_files, stored_now
from neuroseg.storage.workspace import Workspace

# Blocks are processed plane by plane, along the axis with the most blocks. A block of edges reads the neighbouring
# blocks of fragments, and these read the neighbouring blocks of affinities. So prediction waits while this many planes
# exist.
_PLANES = 4


def blocks_held(lattice: Lattice) -> int:
    """Return the number of blocks of a lattice whose affinities exist at a time."""
    roi = lattice.roi.intersect(whole(lattice.volume_shape))
    counts: list[int] = [
        -(-end // width) - begin // width
        for begin, end, width in zip(roi.begin, roi.end, lattice.block_shape, strict=True)
    ]
    return math.prod(counts) * min(_PLANES, max(counts)) // max(1, *counts)


class Streaming:
    """Releases each block of a stage when its readers are done. The only output of the stage is an array.

    `peak_disk_bytes` is the maximum size of its files so far.
    """

    def __init__(self, workspace: Workspace, maker: Stage) -> None:
        self._workspace, self._maker, self._ledger = workspace, maker, ledger_of(workspace, maker)
        self._held: dict[int, Stored] = {}
        self._left: Counter[int] = Counter()
        self._pinned: set[int] = set()
        self._bytes = self.peak_disk_bytes = 0
        self._limit = blocks_held(maker.lattice)

    def attach(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the tasks with callbacks that release blocks. Release the blocks without readers now."""
        readers = [task for task in tasks if not set(self._maker.outputs).isdisjoint(task.stage.inputs)]
        lattice = self._maker.lattice
        self._left = Counter(
            index for task in readers for block in task.blocks for index in lattice.indices_touching(block.read_roi)
        )
        stored = self._ledger.stored(lattice.blocks(self._maker.halo))
        self._held = {block.index: each[0] for block, each in stored}
        self._bytes = sum(each.size for each in self._held.values())
        self.peak_disk_bytes = max(self.peak_disk_bytes, self._bytes)
        for index in list(self._held):
            self._release_unless_read(index)
        attached = []
        for task in tasks:
            if task.stage == self._maker:
                attached.append(replace(task, done=self._made, must_wait=self._is_full))
            else:
                attached.append(replace(task, done=self._read) if task in readers else task)
        return attached

    def _is_full(self) -> bool:
        return len(self._held.keys() - self._pinned) >= self._limit

    def _made(self, block: Block, at_first: bool) -> None:
        """Record the files of a new block."""
        if (artifact := self._artifact()) is not None:
            self._held[block.index] = stored = stored_now(artifact, file_size, block)
            self._bytes += stored.size
            self.peak_disk_bytes = max(self.peak_disk_bytes, self._bytes)
            self._release_unless_read(block.index)

    def _read(self, reader: Block, at_first: bool) -> None:
        """Release what no other block reads. Keep what a dropped worker may still read until the end."""
        touched = self._maker.lattice.indices_touching(reader.read_roi)
        if not at_first:
            self._pinned.update(touched)
            return
        for index in touched:
            self._left[index] -= 1
            self._release_unless_read(index)

    def _release_unless_read(self, index: int) -> None:
        if self._left[index] > 0 or index not in self._held:
            return
        block, stored = self._maker.lattice.block(index, self._maker.halo), self._held[index]
        artifact = self._artifact()
        # Mark before deleting: a released block may still have files, but a stored block must have them.
        if artifact is not None and self._ledger.release(block):
            remove_files(artifact, block)
            self._bytes -= stored.size
            del self._held[index]

    def _artifact(self) -> Artifact | None:
        (name,) = self._maker.outputs
        return artifact_at(self._workspace.artifact(name))
