"""A workspace's artifacts compared with what its done marks know of them: which blocks are missing, which damaged.

done marks (files, bytes, CRC-32 of each block) + artifacts  ->  one finding for each stage that has any
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neuroseg.blocks import Block
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
    """What is wrong with one stage: of its done blocks the missing and the damaged ones, damaged files, and artifacts
    that were removed as a whole, as `neuroseg clean` does.
    """

    stage: str
    done: int
    missing: list[int]
    damaged: list[int]
    files: list[str]
    removed: list[str]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing or damaged."""
        return not (self.missing or self.damaged)


def checked(workspace: Workspace, plan: Plan, begin: Begin) -> Iterator[Checked]:
    """Yield what is found of each stage, in their order; every file of every done block is read."""
    for stage in stages_as_stored(workspace, plan):
        yield _checked(workspace, stage, begin)


def _checked(workspace: Workspace, stage: Stage, begin: Begin) -> Checked:
    ledger, blocks = ledger_of(workspace, stage), list(stage.lattice.blocks(stage.halo))
    left = {block.index for block in ledger.pending(blocks)}
    done = [block for block in blocks if block.index not in left]
    stored = ledger.stored(done)
    gone = [number for number, name in enumerate(stage.outputs) if not _is_there(workspace, name)]
    removed = [n for n in gone if any(counts[n].files for _, counts in stored if n < len(counts))]
    missing = {block.index for block in missing_blocks(workspace, stage)}
    if removed and isinstance(stage, RelabelStage | PyramidStage):
        missing = {block.index for block in done}  # nothing removes the segmentation on purpose
    there = [block for block in done if block.index not in missing]
    observe = begin(f"check {stage.name}", len(there), sum(block.voxels for block in there))
    damaged, files, unknown = list[int](), list[str](), list[Block]()
    for count, (block, checksums) in enumerate(ledger.checksums(there), start=1):
        if checksums is None:
            unknown.append(block)
        known = (checksums or {}).items()
        wrong = [path for path, values in known if not _is_as_known(_place(workspace, stage, path), values)]
        if wrong:
            damaged.append(block.index)
            files += [str(_place(workspace, stage, path)) for path in wrong]
        observe(count - len(damaged), len(damaged))
    for name in stage.outputs:
        damaged += [block.index for block in damaged_blocks(workspace.artifact(name), unknown)]
    names = [stage.outputs[number] for number in removed]
    return Checked(stage.name, len(done), sorted(missing), sorted(set(damaged)), files, names)


def _is_there(workspace: Workspace, name: str) -> bool:
    try:
        return artifact_at(workspace.artifact(name)) is not None
    except ValueError:
        return True


def _place(workspace: Workspace, stage: Stage, path: str) -> Path:
    """Return where a file lies now that was written at `path`: a segmentation is written aside, then swapped in."""
    if isinstance(stage, RelabelStage | PyramidStage):
        return Path(str(workspace.artifact(stage.aside.name))) / path.partition("/")[2]
    return Path(str(workspace.artifacts)) / path


def _is_as_known(file: Path, known: list[int]) -> bool:
    """Return whether a file has its bytes; one of an artifact that was removed as a whole is not looked for."""
    try:
        return list(file_checksum(file)) == known
    except FileNotFoundError:
        return True
    except OSError:
        return False
