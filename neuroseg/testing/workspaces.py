"""A small volume of affinities -> a planned workspace, before any stage runs. The conformance tests start with it.

The volume has anisotropic voxels, an offset, a black block, sliver blocks and a tube through many blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from neuroseg.blocks import Block
from neuroseg.geometry import Nanometres, Triple
from neuroseg.runs.options import Options
from neuroseg.runs.plan import read_plan, write_plan
from neuroseg.runs.resolve import plan_of_run
from neuroseg.stage import Finish, Stage
from neuroseg.storage.arrays import create_array, open_array
from neuroseg.storage.workspace import Workspace
from neuroseg.volumes.affinity_source import AffinitySource, open_affinities
from neuroseg.volumes.metadata import array_attributes

SHAPE: Triple = (14, 33, 46)
BLOCK_SHAPE: Triple = (8, 16, 32)
# Voxels with a lower mean affinity belong to no fragment, so the black block is empty.
MASK_BOUNDARY = 0.1
_VOXEL_SIZE_NM: Nanometres = (20.0, 10.0, 10.0)
_OFFSET_NM: Nanometres = (60.0, -20.0, 30.0)
_OFFSETS: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))


def synthetic_affinities(shape: Triple = SHAPE) -> NDArray[np.uint8]:
    """Return affinities `(3, z, y, x)` uint8: smooth random values, 0 in the first block, 255 in a tube along x."""
    values = gaussian_filter(np.random.default_rng(5).random((3, *shape)), (0, 1, 2, 2))
    affinities: NDArray[np.uint8] = np.round(255 * (values - values.min()) / np.ptp(values)).astype(np.uint8)
    affinities[(slice(None), *(slice(0, width) for width in BLOCK_SHAPE))] = 0
    affinities[:, 3:6, 20:23] = 255
    return affinities


def make_affinities(path: Path) -> AffinitySource:
    """Write the synthetic affinities to a zarr with several shards, and return their source for stages."""
    affinities = synthetic_affinities()
    attributes = array_attributes(_VOXEL_SIZE_NM, _OFFSET_NM, channels=True)
    attributes["offsets"] = [list(offset) for offset in _OFFSETS]
    create_array(path, shape=affinities.shape, dtype=np.uint8, block=BLOCK_SHAPE, attributes=attributes)
    open_array(path, writable=True)[:] = affinities
    return open_affinities(str(path), None, None)


def planned_workspace(folder: Path) -> Workspace:
    """Return a workspace in `folder` with a run.yaml that plans all stages after prediction. None has run.

    Processes on other machines get the same stages with `read_plan(workspace).stage(workspace, name)`.
    """
    make_affinities(folder / "affinities.zarr")
    options = Options(
        affinities=str(folder / "affinities.zarr"),
        output=str(folder / "volume.neuroseg"),
        blocks=",".join(map(str, BLOCK_SHAPE)),
        mask_boundary=MASK_BOUNDARY,
        executor="serial",
    )
    workspace, plan, options = plan_of_run(options)
    write_plan(workspace, plan, options)
    return workspace


def prepared_stage(workspace: Workspace, name: str) -> Stage:
    """Return a stage of a planned workspace after creating its outputs."""
    stage = read_plan(workspace).stage(workspace, name)
    stage.prepare()
    return stage


def blocks_of(stage: Stage) -> list[Block]:
    """Return the blocks of a stage, by ascending index."""
    return list(stage.lattice.blocks(stage.halo))


def run_directly(stage: Stage, blocks: Sequence[Block] | None = None) -> None:
    """Create the outputs of a stage, and process its blocks (default: all) in sequence, without an executor."""
    stage.prepare()
    with stage.open() as process:
        for block in blocks_of(stage) if blocks is None else blocks:
            if (finish := process(block)) is not None:
                finish()


def run_overlapping(stage: Stage) -> None:
    """Create the outputs of a stage, and process all blocks. Each begins before the previous one is complete."""
    stage.prepare()
    waiting: Finish | None = None
    with stage.open() as process:
        for block in blocks_of(stage):
            before, waiting = waiting, process(block)
            if before is not None:
                before()
        if waiting is not None:
            waiting()


def stored_files(workspace: Workspace, names: Iterable[str]) -> dict[str, bytes]:
    """Return the content of every file of the artifacts `names`, by path in the workspace."""
    root = Path(str(workspace.artifacts))
    places = [root / name for name in names]
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*")) if file.is_file()]
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def differing(found: Mapping[str, bytes], expected: Mapping[str, bytes]) -> list[str]:
    """Return the sorted names of files that differ or that only one side has."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


@contextmanager
def damaged(files: Iterable[Path]) -> Iterator[None]:
    """Replace the second half of files by zeros. Restore them on exit."""
    whole = {file: file.read_bytes() for file in files}
    for file, content in whole.items():
        file.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))
    try:
        yield
    finally:
        for file, content in whole.items():
            file.write_bytes(content)
