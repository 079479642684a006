"""Process one block: run it, count the files that it wrote, and mark it done or failed.

a worker: process_block -> Outcome  ->  the head: record -> the ledger
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import resource
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuroseg.blocks import Block
from neuroseg.errors import DiskFullError, MissingPartError, NeurosegError
from neuroseg.execution.failures import describe_failure, may_describe
from neuroseg.geometry import describe
from neuroseg.stage import Process, Stage
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.space import describe_full, is_disk_full
from neuroseg.storage.stored import Stored, flushed
from neuroseg.storage.workspace import Workspace

# No block takes longer. A worker that exceeds it hangs.
BLOCK_TIMEOUT_S = 6 * 3600.0

_STATUS_BYTES = 4096
# A message to the head stays below 16 KiB, so that it is sent in one piece.
_TRACE_LENGTH = 6000

logger = logging.getLogger(__name__)


def ledger_of(workspace: Workspace, stage: Stage) -> StageLedger:
    """Return the ledger of a stage."""
    return workspace.ledger(stage.name, stage.identity, stage.scope)


@dataclass(frozen=True)
class Outcome:
    """The result of one attempt at a block. `cause` is empty if it is done.

    `record` describes the worker. `stored` has the counts of the block's files, `files` their bytes and CRC-32.
    `is_disk_full`: the block failed because a disk is full.
    """

    cause: str = ""
    is_disk_full: bool = False
    record: Mapping[str, Any] = field(default_factory=dict)
    stored: Sequence[Sequence[int]] = ()
    files: Mapping[str, Sequence[int]] = field(default_factory=dict)


def process_block(
    process: Process,
    block: Block,
    stage: Stage,
    workspace: Workspace,
    begun: Callable[[], None] = lambda: None,
    *,
    early: bool = False,
) -> Outcome:
    """Process one block and return the result, which the head must record (`record`).

    Calls `begun` once, as soon as the next block may begin. Describes a failure in the workspace (failures.py). With
    `early`, the stages before are still running: raises MissingPartError for a part that is not written yet.
    """
    started = time.monotonic()
    try:
        try:
            finish = process(block)
        finally:
            begun()
        if finish is not None:
            finish()
        return completed(block, stage, workspace, started)
    except Exception as error:
        if early and isinstance(error, MissingPartError):
            raise
        return _failed(error, block, stage, workspace)


def completed(block: Block, stage: Stage, workspace: Workspace, started: float) -> Outcome:
    """Return the result of a block that began at `started` (time.monotonic), after its files are on disk."""
    stored, files = flushed(workspace.artifacts, stage.outputs, block)
    record = {
        "seconds": round(time.monotonic() - started, 4),
        "voxels": block.voxels,
        "peak_mib": peak_memory_mib(),
        "host": own_host(),
        "process": os.getpid(),
        "job": own_job(),
        "device": device_in_use(),
    }
    return Outcome(record=record, stored=stored, files=files)


def record(outcome: Outcome, block: Block, ledger: StageLedger) -> bool:
    """Mark a block done or failed. Return whether it is done.

    Only the head may call this. Raises DiskFullError if the disk is full, because no other block could be written.
    """
    if not outcome.cause:
        ledger.mark_done(block, outcome.record, [Stored(*each) for each in outcome.stored], outcome.files)
        return True
    ledger.mark_failed(block, outcome.cause)
    if outcome.is_disk_full:
        raise DiskFullError(outcome.cause)
    return False


def place_of(stage: Stage, block: Block) -> str:
    """Return the words that name a block in messages."""
    return f"stage {stage.name}, block {block.index} ({describe(block.write_roi)})"


def _failed(error: Exception, block: Block, stage: Stage, workspace: Workspace) -> Outcome:
    """Return the result of a block that raised, and describe it in the workspace unless the disk is full."""
    where, trace = place_of(stage, block), "".join(traceback.format_exception(error))
    cause = str(error) if isinstance(error, NeurosegError) else f"{type(error).__name__}: {error}"
    logger.info("%s failed: %s", where, cause)
    if is_disk_full(error):
        return Outcome(f"{where}: {describe_full(error, workspace.path)}", is_disk_full=True)
    try:
        if may_describe(workspace.path, stage.name):
            describe_failure(workspace, stage, block, trace)
    except Exception as undescribed:
        # An error in the description must not hide the failure.
        logger.warning("%s: cannot describe the failure: %s", where, undescribed)
    return Outcome(
        f"{where}: {cause[:_TRACE_LENGTH]}"
        + ("" if isinstance(error, NeurosegError) else f"\n{trace[-_TRACE_LENGTH:]}")
    )


def own_host() -> str:
    """Return the name of this machine, inside a SLURM job that of the node."""
    return os.environ.get("SLURMD_NODENAME", platform.node())


def own_job() -> str | None:
    """Return the SLURM job of this process as squeue prints it: JOB, or JOB_TASK in an array. None outside SLURM."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}") for name in ("JOB_ID", "TASK_ID"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def device_in_use() -> str:
    """Return `cpu`, or `cuda:` and the GPU whose memory this process uses, as CUDA_VISIBLE_DEVICES names it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return "cpu"
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    used = [names[number] for number in range(count) if torch.cuda.memory_reserved(number)]
    return f"cuda:{','.join(used)}" if used else "cpu"


def peak_memory_mib() -> int:
    """Return the peak resident memory of this process in MiB.

    On Linux, the count begins with the process. Elsewhere it may include the memory of the parent before the fork.
    """
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/status", "rb", buffering=0) as status:
            content = status.read(_STATUS_BYTES)
        begin = content.index(b"VmHWM:") + len(b"VmHWM:")
        return int(content[begin : content.index(b"kB", begin)]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def forget_peak_memory() -> None:
    """Reset the peak that `peak_memory_mib` returns. Does nothing except on Linux."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
