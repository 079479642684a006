"""The ledger: done blocks, failed blocks, and the settings that produced them.

    ledger/fragments/identity.yaml       settings and inputs that determine the stage's bytes
    ledger/fragments/marks               which blocks have begun, are done or have failed, and why (marks.py)

Only the head writes to the ledger. Other processes may read it at any time.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import yaml
from numpy.typing import NDArray

from neuroseg.blocks import Block, Blocks, chosen, indices_of
from neuroseg.errors import RunRefusedError
from neuroseg.storage.done_table import DoneRecords, Numbers
from neuroseg.storage.identity_errors import other_identity
from neuroseg.storage.marks import Marks, MarksFile, marks_file
from neuroseg.storage.publish import publish_text
from neuroseg.storage.state import mapping_in
from neuroseg.storage.stored import Stored
from neuroseg.storage.tokens import seed_of, token_of, tokens_of

# The lines of so many blocks are read at a time.
_READ_TOGETHER = 4096
# Values for `status` and summaries if a record lacks them.
_UNKNOWN: Mapping[str, float] = {"time": 0.0, "seconds": 0.0, "voxels": 0, "peak_mib": 0}
_UNCHANGED: Mapping[str, str] = {}


@dataclass(frozen=True)
class StoredBlocks:
    """Done blocks with number and bytes of their files in each artifact, `(blocks, artifacts)`; -1: no count."""

    blocks: Sequence[Block]
    files: NDArray[np.integer]
    sizes: NDArray[np.integer]

    def __iter__(self) -> Iterator[tuple[Block, list[Stored]]]:
        """Yield each block with its counts."""
        for block, files, sizes in zip(self.blocks, self.files, self.sizes, strict=True):
            yield block, [Stored(int(n), int(size)) for n, size in zip(files, sizes, strict=True) if n >= 0]


@dataclass(frozen=True)
class StageLedger:
    """The marks of one stage with one identity. `scope` is part of the hash of every block (see Stage.scope)."""

    folder: Path
    identity: Mapping[str, Any]
    scope: str = ""

    @property
    def run_folder(self) -> Path:
        """The folder of the workspace."""
        return self.folder.parent.parent

    def token(self, block: Block) -> str:
        """Return the hash that a done mark of `block` must carry."""
        return f"{token_of(self._seed, block):x}"

    @cached_property
    def _seed(self) -> int:
        return seed_of(json.dumps(dict(self.identity), sort_keys=True), self.scope)

    def require_same(self, restart: str, changes: Mapping[str, str] = _UNCHANGED, blocks: Sequence[Block] = ()) -> None:
        """Raise RunRefusedError if the recorded identity differs from this one; the message names the differences.

        If a block in `blocks` is done with this identity, the record is damaged and is not compared. `restart` is the
        stage to name with --restart. `changes` describes changed inputs by key, since their values are hashes.
        """
        differences, is_damaged = self._differences(changes), self.is_claimed() and not self._recorded()
        if not (differences or is_damaged) or len(self.pending(blocks)) < len(blocks):
            return
        if is_damaged and (done := self.done_count()):
            raise RunRefusedError(
                f"{self._identity} is damaged, and its {done} done blocks were computed with other settings or "
                "for another region",
                hint=f"repeat the command that computed them, or recompute them with --restart {restart}",
            )
        if differences:
            raise other_identity(self.folder.name, differences, changes, restart)

    def claim(self) -> None:
        """Record the identity. From now on, the inputs are not known to be complete (`verify`)."""
        self._file.append("claimed", flush=True)
        publish_text(self._identity, yaml.safe_dump(dict(self.identity), sort_keys=True))

    def verify(self) -> None:
        """Record that the inputs of the stage were complete when its last block was done."""
        self._file.append("verified")

    def is_verified(self) -> bool:
        """Return whether `verify` was called since the identity was recorded."""
        return self._marks.is_verified

    def is_same(self) -> bool:
        """Return whether the recorded identity equals this one. True if there is no record."""
        return not self._differences()

    def is_claimed(self) -> bool:
        """Return whether an identity is recorded, which happens when the stage begins."""
        return self._identity.exists()

    def done(self) -> set[int]:
        """Return the done blocks of any identity."""
        return set(self._marks.done)

    def done_count(self) -> int:
        """Return the number of done blocks of any identity."""
        return len(self._marks.done)

    @overload
    def pending(self, blocks: Blocks) -> Blocks: ...
    @overload
    def pending(self, blocks: Sequence[Block]) -> Sequence[Block]: ...
    def pending(self, blocks: Sequence[Block]) -> Sequence[Block]:
        """Return the blocks that are not done with this identity, in the given order."""
        return chosen(blocks, ~self._are_done(blocks))

    def stored(self, blocks: Sequence[Block]) -> StoredBlocks:
        """Return the done blocks, in the given order, with the counts of their files, one for each artifact.

        Omits released blocks, and blocks without counts.
        """
        return self.written(self._kept(blocks))

    def written(self, blocks: Sequence[Block]) -> StoredBlocks:
        """As `stored`, but include released blocks, with the counts of the files that they had."""
        found = chosen(blocks, self._are_done(blocks))
        files, sizes = self._marks.done.counts(indices_of(found))
        known: NDArray[np.bool_] = np.any(files >= 0, axis=1)
        if known.all():  # millions of rows need no copy
            return StoredBlocks(found, files, sizes)
        return StoredBlocks(chosen(found, known), files[known], sizes[known])

    def release(self, block: Block) -> bool:
        """Mark a done block whose files are about to be removed. Return False if it is not done."""
        mark = self._marks.done.get(block.index)
        if is_done := mark is not None and mark.token == self.token(block):
            self._file.append("released", block.index)
        return is_done

    def released(self) -> Numbers:
        """Return the done blocks of any identity whose files were removed after use, ascending."""
        return self._marks.done.released

    def released_of(self, blocks: Blocks) -> Blocks:
        """Return the blocks that are done with this identity and released."""
        done = self._marks.done
        if not len(done.released):
            return blocks[:0]
        return blocks.where(self._are_done(blocks) & done.are_released(blocks.indices))

    def holds_any(self) -> bool:
        """Return whether any done block was not released."""
        return len(self._marks.done) > len(self._marks.done.released)

    def release_all(self) -> None:
        """Mark all done blocks: their files are about to be removed."""
        if self.holds_any():
            # Without this mark, files that are gone would count as missing.
            self._file.append("all_released", flush=True)

    def mark_begun(self, block: Block) -> None:
        """Mark a block as begun."""
        self._file.append("begun", block.index)

    def mark_postponed(self, block: Block) -> None:
        """Mark a block that was begun and now waits for another block."""
        self._file.append("postponed", block.index)

    def mark_lost(self, block: Block, cause: str) -> None:
        """Mark a begun block failed whose worker died, perhaps while it wrote."""
        self._file.append("lost", block.index, details=cause)

    def running(self) -> list[int]:
        """Return the blocks that were begun and are neither done nor failed."""
        return sorted(self._marks.running)

    def interrupted(self) -> list[int]:
        """Return the blocks that killed processes were computing, if no run is active. Some may be done now."""
        return sorted(self._marks.running | self._marks.lost)

    def end(self) -> None:
        """Forget which blocks were interrupted. Call it when no run is active."""
        if self.interrupted():
            self._file.append("ended")
        self._file.save()

    def mark_done(
        self,
        block: Block,
        record: Mapping[str, Any],
        stored: Sequence[Stored] = (),
        files: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        """Mark a block done. Its failure, if any, is forgotten.

        `record` describes how it was computed, `stored` counts its files, and `files` has their bytes and CRC-32.
        """
        counts = [f"{each.files}.{each.size}" for each in stored]
        details = {**record, "time": time.time()}
        self._file.append("done", block.index, self.token(block), *counts, details=details, files=files or {})

    def mark_failed(self, block: Block, cause: str) -> None:
        """Record why a block failed."""
        self._file.append("failed", block.index, details=cause)

    def clear(self, blocks: Sequence[Block]) -> None:
        """Forget that blocks are done or failed, because they are about to be recomputed."""
        marks, indices = self._marks, indices_of(blocks)
        known = marks.done.contain(indices) | np.isin(indices, list(marks.failed))
        if known.any():
            self._file.append("cleared", *indices[known].tolist(), flush=True)

    def clear_failures(self, blocks: Sequence[Block]) -> None:
        """Forget failures of blocks that are about to be recomputed."""
        failed = self._marks.failed
        self._append_for("retried", [block.index for block in blocks if block.index in failed] if failed else [])

    def failed(self) -> set[int]:
        """Return the failed blocks."""
        return set(self._marks.failed)

    def failures(self) -> dict[int, str]:
        """Return the cause of each failed block."""
        failed = dict(sorted(self._marks.failed.items()))
        return {index: json.loads(parts[1]) for index, parts in self._file.lines(failed)}

    def records(self) -> list[dict[str, Any]]:
        """Return how each done block of any identity was computed. For millions of blocks, use `done_records`."""
        lines = self._file.lines({index: each.offset for index, each in self._marks.done.items()})
        return [{**_UNKNOWN, **json.loads(parts[1]), "block": index} for index, parts in lines]

    def done_records(self) -> DoneRecords:
        """Return how the done blocks of any identity were computed, as arrays."""
        return self._marks.done.records()

    def checksums(self, blocks: Sequence[Block]) -> Iterator[tuple[Block, dict[str, list[int]] | None]]:
        """Yield each done block with bytes and CRC-32 of its files, by their paths when they were written.

        Yield None for a block on a server, whose objects have no checksums.
        """
        for block, (words, _, checksums) in self._lines(blocks):
            files = json.loads(checksums)
            yield block, files if len(files) == sum(each.files for each in _counts(words)) else None

    def forget(self) -> None:
        """Remove all marks and the identity. The stage will be recomputed."""
        self._identity.unlink(missing_ok=True)
        self._file.remove()
        # On NFS, a file that another process reads leaves a file of another name in the folder.
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget_blocks(self) -> None:
        """Forget all blocks. Keep the identity."""
        if self._file.path.exists():
            self._file.append("forgotten", flush=True)

    def _differences(self, changes: Mapping[str, str] = _UNCHANGED) -> list[str]:
        """Return `key: old -> new`, or the description of the change, for each key whose recorded value differs."""
        stored, wanted = self._recorded(), dict(self.identity)
        if not stored:
            return []
        keys = sorted(map(str, stored.keys() | wanted.keys()))
        return [
            changes.get(key) or f"{key}: {stored.get(key)!r} -> {wanted.get(key)!r}"
            for key in keys
            if stored.get(key) != wanted.get(key)
        ]

    def _recorded(self) -> dict[str, Any]:
        """Return the recorded identity. Empty if it is missing or damaged: marks of done blocks contain its hash."""
        return mapping_in(self._identity) or {}

    @property
    def _identity(self) -> Path:
        return self.folder / "identity.yaml"

    @cached_property
    def _file(self) -> MarksFile:
        return marks_file(self.folder / "marks")

    @property
    def _marks(self) -> Marks:
        return self._file.state()

    def _are_done(self, blocks: Sequence[Block]) -> NDArray[np.bool_]:
        """Return whether each block is done with this identity."""
        return self._marks.done.are_done(indices_of(blocks), tokens_of(self._seed, blocks))

    def _kept(self, blocks: Sequence[Block]) -> Sequence[Block]:
        """Return the blocks that are done with this identity and not released."""
        return chosen(blocks, self._are_done(blocks) & ~self._marks.done.are_released(indices_of(blocks)))

    def _lines(self, blocks: Sequence[Block]) -> Iterator[tuple[Block, list[str]]]:
        """Yield the blocks that are done with this identity and not released, with the parts of their lines."""
        found = self._kept(blocks)
        for begin in range(0, len(found), _READ_TOGETHER):
            some = {block.index: block for block in found[begin : begin + _READ_TOGETHER]}
            indices = np.fromiter(some, np.int64, len(some))
            offsets = self._marks.done.lines(indices)
            for index, parts in self._file.lines(dict(zip(some, offsets.tolist(), strict=True))):
                yield some[index], parts

    def _append_for(self, event: str, indices: Iterable[int]) -> None:
        if indices := list(indices):
            self._file.append(event, *indices)


def _counts(words: str) -> list[Stored]:
    """Return the counts of files in the words of a done block."""
    counts = (each.partition(".") for each in words.split(" ")[3:])
    return [Stored(int(files), int(size)) for files, _, size in counts]
