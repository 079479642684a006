"""What a failed block leaves behind, so that it can be understood elsewhere and later.

failures/fragments-00000005/
  block.json      stage, block, regions, machine, process, job, versions
  traceback.txt   what was raised
  inputs.json     checksum and statistics of each input's part that the block reads
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
# Descriptions of so many failed blocks of a stage: the others seldom have another cause, and each rereads its inputs.
_DESCRIBED = 20
_LISTED_NUMBERS = 5
_DIGITS = re.compile(r"\d+")


def failure_folder(run_folder: Path, stage: str, index: int) -> Path:
    """Return where the failure of a block is described."""
    return run_folder / "failures" / f"{stage}-{index:08d}"


def alike(causes: Mapping[int, str]) -> list[tuple[str, int, list[int]]]:
    """Return (cause, block, other blocks) for blocks whose causes differ at most in numbers, as of a voxel."""
    groups: dict[str, list[int]] = {}
    for index, cause in causes.items():
        groups.setdefault(_DIGITS.sub("#", cause), []).append(index)
    return [(causes[first], first, others) for first, *others in groups.values()]


def also(others: Sequence[int]) -> str:
    """Return the words for other blocks that failed alike; nothing where there are none."""
    shown = ", ".join(map(str, others[:_LISTED_NUMBERS])) + (", ..." if len(others) > _LISTED_NUMBERS else "")
    return f" (and {len(others)} more: {shown})" if others else ""


def may_describe(run_folder: Path, stage: str) -> bool:
    """Return whether few enough failures of a stage are described for one more."""
    return len(list((run_folder / "failures").glob(f"{stage}-*"))) < _DESCRIBED


def describe_failure(workspace: Workspace, stage: Stage, block: Block, trace: str, log: Path | None = None) -> None:
    """Write the description of a failure, replacing an older one; `log` is that of this process unless given."""
    folder = failure_folder(workspace.path, stage.name, block.index)
    shutil.rmtree(folder, ignore_errors=True)
    publish_text(folder / "traceback.txt", trace)
    publish_text(folder / "block.json", json.dumps(_about(stage, block), indent=1) + "\n")
    publish_text(folder / "log.txt", _tail(log or _own_log()))
    publish_text(folder / "inputs.json", json.dumps(list(_inputs(workspace, stage, block)), indent=1) + "\n")


def forget_failure(run_folder: Path, stage: str, index: int) -> None:
    """Remove the description of a failure that is past."""
    shutil.rmtree(failure_folder(run_folder, stage, index), ignore_errors=True)


def forget_failures(workspace: Workspace, stage: str) -> None:
    """Remove the descriptions of a stage's failures: its blocks are about to be done again."""
    for folder in (workspace.path / "failures").glob(f"{stage}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def newest_log(workspace: Workspace) -> Path | None:
    """Return the log that a worker wrote to last, whichever it was."""
    logs = workspace.logs.rglob("*.log")
    return max((log for log in logs if log.is_file()), key=lambda log: log.stat().st_mtime, default=None)


def _own_log() -> Path | None:
    """Return the file that this process's messages go to, where the system tells and it is one."""
    try:
        path = Path(os.readlink("/proc/self/fd/2"))
    except OSError:
        return None
    return path if path.is_file() else None


def _tail(log: Path | None) -> str:
    if log is None:
        return "the worker's messages went to no file\n"
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
    """Describe each input; one that cannot be read is described by its error, which may well be the cause."""
    for name in stage.inputs:
        try:
            yield {"input": name, **_input(workspace, name, block)}
        except Exception as error:
            yield {"input": name, "error": f"{type(error).__name__}: {error}"}


def _input(workspace: Workspace, name: str, block: Block) -> dict[str, Any]:
    path = workspace.artifact(name)
    if not path.exists():
        # Raw, or affinities of another network.
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
