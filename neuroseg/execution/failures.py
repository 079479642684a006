"""Describe a failed block in the workspace, so that the cause can be found later or on another machine.

failures/fragments-00000005/
  block.json      stage, block, regions, machine, process, job, versions
  traceback.txt   the exception
  inputs.json     checksum and statistics of the part of each input that the block reads
  log.txt         the last lines of the worker's log
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg import __version__
from neuroseg.blocks import Block
from neuroseg.geometry import describe, slices
from neuroseg.stage import Stage
from neuroseg.storage.parts import part_path
from neuroseg.storage.publish import publish_text
from neuroseg.storage.workspace import Workspace
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.affinity_source import open_stored
from neuroseg.volumes.selection import Selection
from neuroseg.volumes.zarr_nodes import open_node

_PACKAGES = ("numpy", "numba", "zarr", "torch", "daisy", "pyarrow")
_VARIABLES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SLURM_", "HOSTNAME")
_LOG_BYTES = 16384
# Describe at most this many failed blocks of a stage. More seldom have another cause, and each rereads its inputs.
_DESCRIBED = 20
_LISTED_NUMBERS = 5
_DIGITS = re.compile(r"\d+")
_HINT = "hint: "


def failure_folder(run_folder: Path, stage: str, index: int) -> Path:
    """Return the folder that describes the failure of a block."""
    return run_folder / "failures" / f"{stage}-{index:08d}"


def message_and_hint(cause: str) -> tuple[str, str]:
    """Return the first line of a recorded cause, and its hint, which is the last line if there is one."""
    lines = cause.splitlines() or [""]
    return lines[0], lines[-1].removeprefix(_HINT) if lines[-1].startswith(_HINT) else ""


def distinct_causes(causes: Mapping[int, str]) -> list[tuple[str, int]]:
    """Return each distinct cause with its first block. Causes that differ only in numbers (of a voxel) are the same.

    The text of a cause is its message, the other blocks that failed for it, and its hint on a second line.
    """
    groups: dict[str, list[int]] = {}
    for index, cause in causes.items():
        groups.setdefault(_DIGITS.sub("#", "\n".join(message_and_hint(cause))), []).append(index)
    return [(_cause_text(causes[first], others), first) for first, *others in groups.values()]


def _cause_text(cause: str, others: Sequence[int]) -> str:
    message, hint = message_and_hint(cause)
    shown = ", ".join(map(str, others[:_LISTED_NUMBERS])) + (", ..." if len(others) > _LISTED_NUMBERS else "")
    return (
        message + (f" (and {len(others)} more: {shown})" if others else "") + (f"\n    {_HINT}{hint}" if hint else "")
    )


def may_describe(run_folder: Path, stage: str) -> bool:
    """Return whether another failure of a stage may be described."""
    return len(list((run_folder / "failures").glob(f"{stage}-*"))) < _DESCRIBED


def describe_failure(workspace: Workspace, stage: Stage, block: Block, trace: str, log: Path | None = None) -> None:
    """Describe a failure, replacing an older description. `log` is by default the log of this process."""
    folder = failure_folder(workspace.path, stage.name, block.index)
    shutil.rmtree(folder, ignore_errors=True)
    publish_text(folder / "traceback.txt", trace)
    publish_text(folder / "block.json", json.dumps(_about(stage, block), indent=1) + "\n")
    publish_text(folder / "log.txt", _tail(log or _own_log()))
    publish_text(folder / "inputs.json", json.dumps(list(_inputs(workspace, stage, block)), indent=1) + "\n")


def forget_failure(run_folder: Path, stage: str, index: int) -> None:
    """Remove the description of a failure."""
    shutil.rmtree(failure_folder(run_folder, stage, index), ignore_errors=True)


def forget_failures(workspace: Workspace, stage: str) -> None:
    """Remove the descriptions of all failures of a stage, before its blocks are retried."""
    for folder in (workspace.path / "failures").glob(f"{stage}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def newest_log(workspace: Workspace) -> Path | None:
    """Return the worker log that was written last, or None."""
    logs = workspace.logs.rglob("*.log")
    return max((log for log in logs if log.is_file()), key=lambda log: log.stat().st_mtime, default=None)


def _own_log() -> Path | None:
    """Return the file that stderr of this process writes to. None if it is no file, or without /proc."""
    try:
        path = Path(os.readlink("/proc/self/fd/2"))
    except OSError:
        return None
    return path if path.is_file() else None


def _tail(log: Path | None) -> str:
    if log is None:
        return "the worker has no log file\n"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_BYTES))
        return f"{log}\n\n{file.read().decode(errors='replace')}"


def _about(stage: Stage, block: Block) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "block": block.index,
        "write_roi": describe(block.write_roi),
        "read_roi": describe(block.read_roi),
        "time": time.strftime("%F %T %z"),
        "host": platform.node(),
        "process": os.getpid(),
        "command": sys.argv,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "neuroseg": __version__,
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "variables": {key: value for key, value in sorted(os.environ.items()) if key.startswith(_VARIABLES)},
    }


def _inputs(workspace: Workspace, stage: Stage, block: Block) -> Iterator[dict[str, Any]]:
    """Yield a description of each input. If an input cannot be read, the description is the error."""
    for name in stage.inputs:
        try:
            yield {"input": name, **_input(workspace, name, block)}
        except Exception as error:
            yield {"input": name, "error": f"{type(error).__name__}: {error}"}


def _input(workspace: Workspace, name: str, block: Block) -> dict[str, Any]:
    path = workspace.artifact(name)
    if not path.exists():
        # The input of the run: raw, affinities or boundaries.
        plan = workspace.read_run()["plan"]
        return {"path": plan["path"], **_statistics(_read_elsewhere(plan, block))}
    if path.is_file() or part_path(path, block.index).is_file():
        file = path if path.is_file() else part_path(path, block.index)
        content = file.read_bytes()
        return {"path": str(file), "bytes": len(content), "sha256": _sha256(content)}
    array = open_node(path)
    return {"path": str(path), **_statistics(np.asarray(array[(..., *slices(block.read_roi))]))}


def _read_elsewhere(plan: dict[str, Any], block: Block) -> NDArray[Any]:
    selection, size = Selection(**plan.get("selection", {})), tuple(plan["voxel_size_nm"])
    if plan["kind"] == "affinities":
        return open_stored(plan["path"], selection, size).read(block.read_roi)
    return open_any(plan["path"], level=plan["level"], voxel_size_nm=size, selection=selection).read(block.read_roi)


def _statistics(values: NDArray[Any]) -> dict[str, Any]:
    known: dict[str, Any] = {
        "shape": list(values.shape), "dtype": str(values.dtype), "sha256": _sha256(np.ascontiguousarray(values).data)
    }  # fmt: skip
    if values.size:
        measured = {"least": values.min(), "most": values.max(), "mean": values.mean(dtype=np.float64)}
        known |= {key: float(value) for key, value in measured.items()}
        known["zeros"] = int(values.size - np.count_nonzero(values))
    return known


def _sha256(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
