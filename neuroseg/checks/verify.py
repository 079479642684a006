"""The promise kept on a user's own volume: a crop of it, cut up and killed in several ways, gives the same bytes."""

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
    "affinities.zarr": "the network gives other bytes for the same input: workers on different devices or CPU types, "
    "or an operation without a deterministic kernel",
    "fragments.zarr": "a path or a distance reached farther than the halo: a fault of neuroseg, please report it",
    "edges": "contacts were counted twice or left out at a block's face: a fault of neuroseg, please report it",
    "merges/tree": "the order of merges changed the tree: a fault of neuroseg, please report it",
}
_LOOK_S = 0.02
_OTHER_CAUSE = "what it is made from is equal: a fault of neuroseg, please report it"


@dataclass(frozen=True)
class Cut:
    """One way to cut the crop up. `killed`: head and workers are killed on the way, then the run is resumed."""

    blocks: Triple
    executor: str
    workers: int
    killed: bool = False

    def __str__(self) -> str:
        by = "serial" if self.executor == "serial" else f"{self.workers} workers"
        return f"blocks {','.join(map(str, self.blocks))}, {by}{', killed and resumed' if self.killed else ''}"


@dataclass(frozen=True)
class Compared:
    """The artifacts of one cut in the order in which they are made, None where they equal those of the whole."""

    cut: Cut
    workspace: Path
    differences: dict[str, Difference | None]

    @property
    def cause(self) -> str | None:
        """The likely cause: that of the first artifact that differs; None where none does."""
        first = next((name for name, found in self.differences.items() if found), None)
        return None if first is None else _CAUSES.get(first, _OTHER_CAUSE)


def crop_region(shape: Triple, crop: Triple, begin: Triple | None) -> Roi:
    """Return the region of `crop` voxels from `begin`, or in the volume's middle; what is too large is clipped.

    Raises InputError when it would lie outside the volume.
    """
    size = [min(wanted, length) for wanted, length in zip(crop, shape, strict=True)]
    start = begin or [(length - width) // 2 for length, width in zip(shape, size, strict=True)]
    roi = Roi(start, size)
    if not whole(shape).contains(roi):
        raise InputError(f"the crop {describe(roi)} does not lie in the volume {describe(whole(shape))}")
    return roi


def cuts_of(crop: Triple, blocks: Triple | None, workers: int) -> list[Cut]:
    """Return the ways to cut a crop: the user's blocks (or halves) by workers that are killed, and odd ones."""
    halves = triple([max(1, -(-size // 2)) for size in crop])
    odd = triple([max(1, size * share // 100) for size, share in zip(crop, (37, 61, 43), strict=True)])
    return [Cut(blocks or halves, "local", workers, killed=True), Cut(odd, "serial", 1)]


def verify(
    options: Options, folder: Path, crop: Triple, begin: Triple | None, *, show: Begin = pipeline.silent
) -> tuple[Roi, Iterator[Compared]]:
    """Return the crop's region in the volume, and the cuts of it compared with the crop as one block, one by one.

    Everything is written below `folder`. Raises InputError for whatever a run would refuse.
    """
    _, plan, options = plan_of_run(options.model_copy(update={"output": str(folder / "checked.neuroseg")}))
    if plan.fragments != DISTANCE_BASINS:
        raise InputError(f"{plan.fragments} cuts fragments at the faces of the blocks: there is nothing to verify")
    roi = crop_region(plan.shape, crop, begin)
    if options.blocks and all(block >= size for block, size in zip(plan.blocks, roi.shape, strict=True)):
        raise InputError(f"--blocks {options.blocks} does not cut the crop {describe(roi)}; choose smaller ones")
    chosen = options.model_copy(update=_cropped(options, plan, roi, folder))
    cuts = cuts_of(triple(roi.shape), plan.blocks if options.blocks else None, plan.workers)
    return roi, _compared_cuts(chosen, cuts, triple(roi.shape), folder, show)


def _compared_cuts(
    options: Options, cuts: Sequence[Cut], shape: Triple, folder: Path, show: Begin
) -> Iterator[Compared]:
    reference = _carry_out(options, Cut(shape, "serial", 1), shape, folder / "whole.neuroseg", show)
    for number, cut in enumerate(cuts, start=1):
        made = _carry_out(options, cut, shape, folder / f"cut-{number}.neuroseg", show)
        yield Compared(cut, made.path, dict(compared(reference, made)))


def _carry_out(options: Options, cut: Cut, shape: Triple, path: Path, show: Begin) -> Workspace:
    """Run one cut; returns its workspace."""
    given = {
        "output": str(path), "blocks": ",".join(map(str, cut.blocks)), "executor": cut.executor, "workers": cut.workers,
    }  # fmt: skip
    chosen = options.model_copy(update=given)
    if cut.killed:
        _killed_run(chosen, cut, shape, path)
    verb = pipeline.run if chosen.volume else pipeline.segment
    return verb(chosen, begin=show)[0]


def _killed_run(options: Options, cut: Cut, shape: Triple, path: Path) -> None:
    """Begin a run in processes of its own and kill them all once a third of the first stage's blocks are done."""
    config = path.with_suffix(".yaml")
    given = options.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    config.write_text(yaml.safe_dump(given))
    count = math.prod(-(-size // block) for size, block in zip(shape, cut.blocks, strict=True))
    done = path / "ledger" / ("affinities" if options.volume else "fragments") / "done"
    verb = ["run", options.volume] if options.volume else ["segment"]
    # Nothing is imported from the working directory (-P), and the run does not outlive this process.
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "neuroseg", *verb, "--config", str(config)],
        preexec_fn=partial(die_with_parent, os.getpid()), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while child.poll() is None and not (done.is_dir() and 3 * len(list(done.iterdir())) >= count):
            time.sleep(_LOOK_S)
    finally:
        child.kill()  # its head and its workers die with it
        child.wait()
    if child.returncode not in (0, -signal.SIGKILL):
        raise NeurosegError(f"the run that was to be killed ended by itself with exit code {child.returncode}")


def _cropped(options: Options, plan: Plan, roi: Roi, folder: Path) -> dict[str, object]:
    """Copy the region of the input that a plan names to `folder`; returns the options that read the copy instead."""
    offset = [at + b * edge for at, b, edge in zip(plan.offset_nm, roi.begin, plan.voxel_size_nm, strict=True)]
    attributes = array_attributes(plan.voxel_size_nm, (offset[0], offset[1], offset[2]))
    path = folder / "crop.zarr"
    if plan.kind == "affinities":
        values = open_stored(plan.path, plan.selection, plan.voxel_size_nm).read(roi)
        attributes = {**attributes, "offsets": [list(offset) for offset in plan.offsets]}
    else:
        volume = open_any(plan.path, level=plan.level, voxel_size_nm=plan.voxel_size_nm, selection=plan.selection)
        values = volume.read(roi)
    block = [min(64, size) for size in values.shape[-3:]]
    create_array(path, shape=values.shape, dtype=values.dtype.type, block=block, attributes=attributes)
    open_array(path, writable=True)[:] = values
    source = "volume" if plan.kind == "raw" else plan.kind
    # Everything is kept: what a run removes could not be compared.
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
        # The whole volume was accepted; a crop of it may be blank.
        "force": True,
    }
    mask = plan.mask_source(plan.mask)
    return read if mask is None else {**read, "mask": _cropped_mask(mask, roi, folder, attributes)}


def _cropped_mask(mask: MaskSource, roi: Roi, folder: Path, attributes: Mapping[str, object]) -> str:
    """Write a mask as seen from the crop's voxels; returns its path."""
    path, inside = folder / "mask.zarr", mask.open()(roi)
    block = [min(64, size) for size in inside.shape]
    plain = {name: value for name, value in attributes.items() if name != "offsets"}
    create_array(path, shape=inside.shape, dtype=np.uint8, block=block, attributes=plain)
    open_array(path, writable=True)[:] = inside
    return str(path)
