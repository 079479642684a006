"""Process one block: run it, record the files that it wrote, mark it done or failed."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from neuroseg.blocks import Block
from neuroseg.errors import DiskFullError, MissingPartError, NeurosegError
from neuroseg.execution.failures import describe_failure, may_describe
from neuroseg.geometry import describe
from neuroseg.stage import Process, Stage
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.space import describe_full, is_disk_full
from neuroseg.storage.stored import flushed
from neuroseg.storage.workspace import Workspace

# No block takes longer. A worker that exceeds it hangs.
BLOCK_TIMEOUT_S = 6 * 3600.0

_STATUS_BYTES = 4096

logger = logging.getLogger(__name__)


def ledger_of(workspace: Workspace, stage: Stage) -> StageLedger:
    """Return the ledger of a stage."""
    return workspace.ledger(stage.name, stage.identity, stage.scope)


def process_block(
    process: Process,
    block: Block,
    ledger: StageLedger,
    stage: Stage,
    begun: Callable[[], None] = lambda: None,
    *,
    early: bool = False,
) -> bool:
    """Process one block and mark it done or failed in the ledger. Return whether it is done.

    Calls `begun` once, as soon as the next block may begin. Describes a failure in the workspace (failures.py).

    Raises DiskFullError if the disk is full, because no other block could be written either. With `early`, the stages
    before are still running: raises MissingPartError for a part that is not written yet, and leaves no mark.
    """
    started = time.monotonic()
    try:
        try:
            ledger.mark_running(block)
            finish = process(block)
        finally:
            begun()
        if finish is not None:
            finish()
        record_done(block, ledger, stage, started)
    except Exception as error:
        if early and isinstance(error, MissingPartError):
            ledger.unmark_running(block)
            raise
        _record_failure(error, block, ledger, stage)
        return False
    return True


def record_done(block: Block, ledger: StageLedger, stage: Stage, started: float) -> None:
    """Mark a block done that began at `started` (time.monotonic), after its files are on disk."""
    stored, files = flushed(Workspace(ledger.run_folder).artifacts, stage.outputs, block)
    record = {
        "seconds": round(time.monotonic() - started, 4),
        "voxels": block.voxels,
        "peak_mib": peak_memory_mib(),
        "block": block.index,
        "host": os.environ.get("SLURMD_NODENAME", platform.node()),
        "process": os.getpid(),
        "job": own_job(),
        "device": device_in_use(),
        "files": files,
    }
    ledger.mark_done(block, record, stored)


def _record_failure(error: Exception, block: Block, ledger: StageLedger, stage: Stage) -> None:
    """Mark a block failed and describe the failure. Raises DiskFullError if the disk is full."""
    where = f"stage {stage.name}, block {block.index} ({describe(block.write_roi)})"
    plain, trace = isinstance(error, NeurosegError), "".join(traceback.format_exception(error))
    cause = str(error) if plain else f"{type(error).__name__}: {error}"
    full = describe_full(error, ledger.run_folder) if is_disk_full(error) else ""
    logger.info("%s failed: %s", where, cause)
    try:
        ledger.mark_failed(block, f"{where}: {full or cause}" + ("" if full or plain else f"\n{trace}"))
    except OSError as unwritable:
        if full or is_disk_full(unwritable):
            first = cause.partition("\n")[0]
            raise DiskFullError(f"{where}: {first} (the failure could not be recorded: {unwritable})") from unwritable
        logger.warning("%s: cannot record the failure: %s", where, unwritable)
        return
    if full:
        raise DiskFullError(f"{where}: {full}") from error
    try:
        if may_describe(ledger.run_folder, stage.name):
            describe_failure(Workspace(ledger.run_folder), stage, block, trace)
    except Exception as undescribed:
        # An error in the description must not hide the failure.
        logger.warning("%s: cannot describe the failure: %s", where, undescribed)


def own_job() -> str | None:
    """Return the SLURM job of this process as squeue prints it: JOB, or JOB_TASK in an array. None outside SLURM."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}") for name in ("JOB_ID", "TASK_ID"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def device_in_use() -> str:
    """Return `cpu`, or `cuda:` and the visible GPU if this process has used it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return "cpu"
    return f"cuda:{os.environ.get('CUDA_VISIBLE_DEVICES', '0')}"


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
