"""Verify on a crop of a user's volume that block shape, workers and interruptions do not change the result."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from funlib.geometry import Roi

from neuroseg.errors import InputError, NeurosegError
from neuroseg.evaluation.artifacts import Difference, compared
from neuroseg.execution.parent import die_with_parent
from neuroseg.execution.task import Begin
from neuroseg.fragments.settings import DISTANCE_BASINS
from neuroseg.geometry import Triple, describe, triple, whole
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.runs.plan import Plan
from neuroseg.runs.resolve import plan_of_run
from neuroseg.storage.arrays import create_array, open_array
from neuroseg.storage.workspace import Workspace
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.affinity_source import open_stored
from neuroseg.volumes.mask import MaskSource
from neuroseg.volumes.metadata import array_attributes

_CAUSES = {
    "affinities.zarr": "the network gives different bytes for the same input: workers on different devices or CPU "
    "types, or an operation without a deterministic kernel",
    "fragments.zarr": "a path or a distance is longer than the halo: a bug in neuroseg, please report it",
    "edges": "contacts at a block border are missing or counted twice: a bug in neuroseg, please report it",
    "merges/tree": "the order of merges changed the tree: a bug in neuroseg, please report it",
}
_POLL_S = 0.02
_OTHER_CAUSE = "its inputs are identical: a bug in neuroseg, please report it"


@dataclass(frozen=True)
class Cut:
    """One way to divide the crop into blocks. `killed`: head and workers are killed, then the run is resumed."""

    blocks: Triple
    executor: str
    workers: int
    killed: bool = False

    def __str__(self) -> str:
        by = "serial" if self.executor == "serial" else f"{self.workers} workers"
        return f"blocks {','.join(map(str, self.blocks))}, {by}{', killed and resumed' if self.killed else ''}"


@dataclass(frozen=True)
class Compared:
    """The differences of one cut to the undivided crop by artifact, in order of computation. None: identical."""

    cut: Cut
    workspace: Path
    differences: dict[str, Difference | None]

    @property
    def cause(self) -> str | None:
        """The likely cause of the first artifact that differs, or None."""
        first = next((name for name, found in self.differences.items() if found), None)
        return None if first is None else _CAUSES.get(first, _OTHER_CAUSE)


def crop_region(shape: Triple, crop: Triple, begin: Triple | None) -> Roi:
    """Return a region of `crop` voxels from `begin` on, or in the centre of the volume.

    An axis longer than the volume is clipped. Raises InputError if the region is not inside the volume.
    """
    size = [min(wanted, length) for wanted, length in zip(crop, shape, strict=True)]
    start = begin or [(length - width) // 2 for length, width in zip(shape, size, strict=True)]
    roi = Roi(start, size)
    if not whole(shape).contains(roi):
        raise InputError(f"the crop {describe(roi)} is not inside the volume {describe(whole(shape))}")
    return roi


def cuts_of(crop: Triple, blocks: Triple | None, workers: int) -> list[Cut]:
    """Return the cuts to compare: the user's blocks (or halves) with killed workers, and odd block shapes in series."""
    halves = triple([max(1, -(-size // 2)) for size in crop])
    odd = triple([max(1, size * share // 100) for size, share in zip(crop, (37, 61, 43), strict=True)])
    return [Cut(blocks or halves, "local", workers, killed=True), Cut(odd, "serial", 1)]


def verify(
    options: Options, folder: Path, crop: Triple, begin: Triple | None, *, show: Begin = pipeline.silent
) -> tuple[Roi, Iterator[Compared]]:
    """Return the region of the crop, and an iterator that runs each cut and compares it with the undivided crop.

    All files are written below `folder`. Raises InputError for options that a run refuses.
    """
    _, plan, options = plan_of_run(options.model_copy(update={"output": str(folder / "checked.neuroseg")}))
    if plan.fragments != DISTANCE_BASINS:
        raise InputError(
            f"nothing to verify: with --fragments {plan.fragments}, fragments depend on the blocks by design"
        )
    roi = crop_region(plan.shape, crop, begin)
    if options.blocks and all(block >= size for block, size in zip(plan.blocks, roi.shape, strict=True)):
        raise InputError(
            f"--blocks {options.blocks} does not divide the crop {describe(roi)}", hint="choose smaller blocks"
        )
    chosen = options.model_copy(update=_cropped(options, plan, roi, folder))
    cuts = cuts_of(triple(roi.shape), plan.blocks if options.blocks else None, plan.workers)
    return roi, _compared_cuts(chosen, cuts, triple(roi.shape), folder, show)


def _compared_cuts(
    options: Options, cuts: Sequence[Cut], shape: Triple, folder: Path, show: Begin
) -> Iterator[Compared]:
    reference = _run_cut(options, Cut(shape, "serial", 1), shape, folder / "whole.neuroseg", show)
    for number, cut in enumerate(cuts, start=1):
        made = _run_cut(options, cut, shape, folder / f"cut-{number}.neuroseg", show)
        yield Compared(cut, made.path, dict(compared(reference, made)))


def _run_cut(options: Options, cut: Cut, shape: Triple, path: Path, show: Begin) -> Workspace:
    """Run one cut and return its workspace."""
    given = {
        "output": str(path), "blocks": ",".join(map(str, cut.blocks)), "executor": cut.executor, "workers": cut.workers,
    }  # fmt: skip
    chosen = options.model_copy(update=given)
    if cut.killed:
        _killed_run(chosen, cut, shape, path)
    verb = pipeline.run if chosen.volume else pipeline.segment
    return verb(chosen, begin=show)[0]


def _killed_run(options: Options, cut: Cut, shape: Triple, path: Path) -> None:
    """Start a run in separate processes, and kill them when a third of the blocks of the first stage are done."""
    config = path.with_suffix(".yaml")
    given = options.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    config.write_text(yaml.safe_dump(given))
    count = math.prod(-(-size // block) for size, block in zip(shape, cut.blocks, strict=True))
    ledger = Workspace(path).ledger("affinities" if options.volume else "fragments", {})
    verb = ["run", options.volume] if options.volume else ["segment"]
    # -P: do not import modules from the working directory. The run ends with this process.
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "neuroseg", *verb, "--config", str(config)],
        preexec_fn=partial(die_with_parent, os.getpid()), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while child.poll() is None and 3 * len(ledger.done()) < count:
            time.sleep(_POLL_S)
    finally:
        child.kill()  # this also ends its workers
        child.wait()
    if child.returncode not in (0, -signal.SIGKILL):
        raise NeurosegError(f"the run failed with exit code {child.returncode} before it was killed")


def _cropped(options: Options, plan: Plan, roi: Roi, folder: Path) -> dict[str, object]:
    """Copy the region of the input to `folder`, and return the options to read the copy."""
    offset = [at + b * edge for at, b, edge in zip(plan.offset_nm, roi.begin, plan.voxel_size_nm, strict=True)]
    corner = (offset[0], offset[1], offset[2])
    plain = array_attributes(plan.voxel_size_nm, corner)
    attributes, path = plain, folder / "crop.zarr"
    if plan.kind == "affinities":
        values = open_stored(plan.path, plan.selection, plan.voxel_size_nm).read(roi)
        attributes = array_attributes(plan.voxel_size_nm, corner, channels=True)
        attributes["offsets"] = [list(offset) for offset in plan.offsets]
    else:
        volume = open_any(plan.path, level=plan.level, voxel_size_nm=plan.voxel_size_nm, selection=plan.selection)
        values = volume.read(roi)
    block = [min(64, size) for size in values.shape[-3:]]
    create_array(path, shape=values.shape, dtype=values.dtype.type, block=block, attributes=attributes)
    open_array(path, writable=True)[:] = values
    source = "volume" if plan.kind == "raw" else plan.kind
    # Keep all artifacts, to compare them.
    read: dict[str, object] = {
        source: str(path),
        "voxel_size": None,
        "level": None,
        "axes": None,
        "channel": None,
        "time": None,
        "roi": None,
        "offsets": None,
        "keep": "all",
        # The volume was accepted, but a crop may be blank and would be refused.
        "force": True,
    }
    mask = plan.mask_source(plan.mask)
    return read if mask is None else {**read, "mask": _cropped_mask(mask, roi, folder, plain)}


def _cropped_mask(mask: MaskSource, roi: Roi, folder: Path, attributes: Mapping[str, object]) -> str:
    """Write the mask of the crop, one voxel per voxel of the crop, and return its path."""
    path, inside = folder / "mask.zarr", mask.open()(roi)
    block = [min(64, size) for size in inside.shape]
    create_array(path, shape=inside.shape, dtype=np.uint8, block=block, attributes=attributes)
    open_array(path, writable=True)[:] = inside
    return str(path)
