"""Process blocks of a stage in this process, and measure their time, files and memory."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from neuroseg.affinities.stage import AffinitiesStage
from neuroseg.blocks import Block, Lattice
from neuroseg.configuration import Section
from neuroseg.errors import NeurosegError
from neuroseg.execution.block import forget_peak_memory, peak_memory_mib, process_block
from neuroseg.geometry import triple
from neuroseg.runs.block_sums import Length, read_length
from neuroseg.stage import Process, Stage
from neuroseg.storage.workspace import Workspace

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Counts = dict[str, tuple[int, int]]
"""Files and bytes of each artifact."""


class Measured(Section):
    """The measured needs of one stage at one place.

    `start_s` is the time to set up the stage and load its kernels, `seconds` that of the counted blocks. `work` is what
    the time grows with: voxels that the stage reads or predicts, or edges. `size` is what its files grow with: voxels
    that it writes, or edges. `stored` has files and bytes of each artifact. `base_mib` is the memory before the stage,
    and `more_mib` what the counted blocks added.
    """

    stage: str
    start_s: float
    seconds: float
    work: int
    size: int
    stored: Counts
    base_mib: int
    more_mib: int


class Probe(Section):
    """The measurements at one place: the block, its voxels, and the edges whose first fragment lies in it.

    `host` is the machine that measured, `device` what it predicted on, and `start_s` the time from the start of its
    process until it was ready.
    """

    block: int
    voxels: int
    edges: int
    stages: tuple[Measured, ...]
    host: str
    device: str
    start_s: float


def work_of(stage: Stage) -> Length:
    """Return the length of the work of a block: what it reads, or the tiles that it predicts."""
    if not isinstance(stage, AffinitiesStage):
        return read_length(stage.lattice, stage.halo)
    context = stage.bundle.card.tile.context_voxels if stage.blend == "gaussian" else (0, 0, 0)
    tile = stage.tile
    return lambda axis, begin, end: (
        -(-(end + context[axis]) // tile[axis]) * tile[axis] - (begin - context[axis]) // tile[axis] * tile[axis]
    )


class Opened:
    """A stage that is set up. Two threads take turns to process its blocks, as in a worker (execution/serving.py)."""

    def __init__(self, stage: Stage, workspace: Workspace, process: Process, threads: Sequence[Executor]) -> None:
        self._stage, self._workspace, self._process = stage, workspace, process
        self._threads = itertools.cycle(threads)

    def run(self, blocks: Sequence[Block]) -> tuple[float, Counts]:
        """Process blocks; return the seconds, and the files and bytes of each artifact.

        Raises NeurosegError if a block fails.
        """
        seconds, counts = 0.0, dict.fromkeys(self._stage.outputs, (0, 0))
        for block in blocks:
            thread = next(self._threads)
            outcome = thread.submit(process_block, self._process, block, self._stage, self._workspace).result()
            if outcome.cause:
                raise NeurosegError(f"a probe failed: {outcome.cause}")
            seconds += float(outcome.record["seconds"])
            for name, (files, size) in zip(self._stage.outputs, outcome.stored, strict=True):
                counts[name] = (counts[name][0] + files, counts[name][1] + size)
        return seconds, {name: each for name, each in counts.items() if each[0]}

    def run_twice(self, blocks: Sequence[Block]) -> tuple[float, Counts]:
        """Process blocks in one thread, then in the other. Return the mean of the seconds, and files and bytes."""
        first, _ = self.run(blocks)
        again, counts = self.run(blocks)
        return (first + again) / 2, counts


@contextmanager
def opened(stage: Stage, workspace: Workspace) -> Iterator[tuple[Opened, float]]:
    """Set up a stage; yield it, and the seconds that this took."""
    stage.prepare()
    began = time.monotonic()
    with stage.open() as process, ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        yield Opened(stage, workspace, process, (one, other)), time.monotonic() - began


class Memory:
    """The memory of this process: before something is measured, and what that adds."""

    def __init__(self) -> None:
        self.base_mib = _resident_mib()
        # Freed memory stays with the process. What is measured next would reuse it and seem to need nothing.
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
        forget_peak_memory()
        self._trimmed_mib = _resident_mib()

    def more_mib(self) -> int:
        """Return the peak since the beginning, without what was in use then."""
        return max(0, peak_memory_mib() - self._trimmed_mib)


def index_at(lattice: Lattice, voxel: Sequence[int]) -> int:
    """Return the index of the block that contains a voxel."""
    return lattice.index_of(triple([at // width for at, width in zip(voxel, lattice.block_shape, strict=True)]))


def seconds_since_start() -> float:
    """Return how long this process has existed. In a job, that includes the configured lines before the program."""
    # The 22nd field of the line is the start, in ticks since the machine was started. The second may contain spaces.
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def _resident_mib() -> int:
    """Return the resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES // 2**20
