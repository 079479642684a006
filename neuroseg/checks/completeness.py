"""Compare the artifacts of a workspace with its done marks, and find missing and damaged blocks.

done marks (files, bytes, CRC-32 of each block) + artifacts  ->  one `Checked` per stage
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuroseg.blocks import Block, indices_of, voxels_of
from neuroseg.execution.block import ledger_of
from neuroseg.execution.task import Begin
from neuroseg.runs.damage import missing_blocks
from neuroseg.runs.finished import stages_as_stored
from neuroseg.runs.plan import Plan
from neuroseg.segmentation.stage import PyramidStage, RelabelStage
from neuroseg.stage import Stage
from neuroseg.storage.integrity import damaged_blocks
from neuroseg.storage.stored import artifact_at, file_checksum
from neuroseg.storage.workspace import Workspace


@dataclass(frozen=True)
class Checked:
    """The state of one stage: its done blocks, the missing and damaged ones among them, and damaged files.

    `removed`: artifacts that were removed completely, for example by `neuroseg clean`.
    """

    stage: str
    done: int
    missing: list[int]
    damaged: list[int]
    files: list[str]
    removed: list[str]

    @property
    def is_whole(self) -> bool:
        """Whether no block is missing or damaged."""
        return not (self.missing or self.damaged)


def checked(workspace: Workspace, plan: Plan, begin: Begin) -> Iterator[Checked]:
    """Yield the state of each stage, in order. This reads every file of every done block."""
    for stage in stages_as_stored(workspace, plan):
        yield _checked(workspace, stage, begin)


def _checked(workspace: Workspace, stage: Stage, begin: Begin) -> Checked:
    ledger, blocks = ledger_of(workspace, stage), stage.lattice.blocks(stage.halo)
    done = blocks.where(~np.isin(blocks.indices, ledger.pending(blocks).indices))
    files_of = ledger.stored(done).files
    absent = [number for number, name in enumerate(stage.outputs) if not _is_there(workspace, name)]
    removed = [n for n in absent if n < files_of.shape[1] and (files_of[:, n] > 0).any()]
    missing = indices_of(missing_blocks(workspace, stage))
    if removed and isinstance(stage, RelabelStage | PyramidStage):
        missing = done.indices  # no command removes the segmentation
    there = done.where(~np.isin(done.indices, missing))
    observe = begin(f"check {stage.name}", len(there), voxels_of(there))
    damaged, files, unknown = list[int](), list[str](), list[Block]()
    for count, (block, checksums) in enumerate(ledger.checksums(there), start=1):
        if checksums is None:
            unknown.append(block)
        known = (checksums or {}).items()
        wrong = [path for path, values in known if not _is_intact(_place(workspace, stage, path), values)]
        if wrong:
            damaged.append(block.index)
            files += [str(_place(workspace, stage, path)) for path in wrong]
        observe(count - len(damaged), len(damaged))
    for name in stage.outputs:
        damaged += [block.index for block in damaged_blocks(workspace.artifact(name), unknown)]
    names = [stage.outputs[number] for number in removed]
    return Checked(stage.name, len(done), missing.tolist(), sorted(set(damaged)), files, names)


def _is_there(workspace: Workspace, name: str) -> bool:
    try:
        return artifact_at(workspace.artifact(name)) is not None
    except ValueError:
        return True


def _place(workspace: Workspace, stage: Stage, path: str) -> Path:
    """Return the present place of a file that was written at `path`: a finished segmentation is moved."""
    if isinstance(stage, RelabelStage | PyramidStage):
        return Path(str(workspace.artifact(stage.aside))) / path.partition("/")[2]
    return Path(str(workspace.artifacts)) / path


def _is_intact(file: Path, known: list[int]) -> bool:
    """Return whether a file has the known size and CRC-32. True if the file was removed with its whole artifact."""
    try:
        return list(file_checksum(file)) == known
    except FileNotFoundError:
        return True
    except OSError:
        return False
