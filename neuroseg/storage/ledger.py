"""The ledger: done blocks, failed blocks, and the settings that produced them.

    ledger/fragments/identity.yaml       settings and inputs that determine the stage's bytes
    ledger/fragments/done/00000007-9f2c-1.830-0.0
                                         block 7 is done. 9f2c: hash of the identity and of the block's region.
                                         1.830, 0.0: number and bytes of the block's files, one pair for each artifact
    ledger/affinities/done/00000003-81aa-released
                                         block 3 is done. Its files were removed after all of their readers were done
    ledger/fragments/failed/00000008     why block 8 failed
    ledger/fragments/running/00000009    block 9 has begun and is neither done nor failed
    ledger/fragments/verified            the inputs of the stage were complete when its last block was done

A mark is a file. So marking is atomic, and a listing of the folder shows the state of the stage.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from neuroseg.blocks import Block
from neuroseg.errors import RunRefusedError
from neuroseg.geometry import describe_box
from neuroseg.storage.identity_errors import other_identity
from neuroseg.storage.publish import publish_text
from neuroseg.storage.space import path_in_errors
from neuroseg.storage.state import mapping_in
from neuroseg.storage.stored import Stored
from neuroseg.storage.trees import renew_listing

_TOKEN_LENGTH = 12
_RELEASED = "released"
_DONE = re.compile(rf"\d+-[0-9a-f]+((-\d+\.\d+)*|-{_RELEASED})")
_NUMBER = re.compile(r"\d+")
# Values for `status` and summaries if a mark lacks them.
_UNKNOWN: Mapping[str, float] = {"time": 0.0, "seconds": 0.0, "voxels": 0, "peak_mib": 0}
_UNCHANGED: Mapping[str, str] = {}


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
        regions = json.dumps([describe_box(block.write_box), describe_box(block.read_box), self.scope])
        described = f"[{self._identity_text}, {regions[1:]}"
        return hashlib.sha256(described.encode()).hexdigest()[:_TOKEN_LENGTH]

    @cached_property
    def _identity_text(self) -> str:
        return json.dumps(dict(self.identity), sort_keys=True)

    def require_same(self, restart: str, changes: Mapping[str, str] = _UNCHANGED, blocks: Sequence[Block] = ()) -> None:
        """Raise RunRefusedError if the recorded identity differs from this one; the message names the differences.

        If a block in `blocks` is done with this identity, the record is damaged and is not compared. `restart` is the
        stage to name with --restart. `changes` describes changed inputs by key, since their values are hashes.
        """
        differences, is_damaged = self._differences(changes), self.is_claimed() and not self._recorded()
        done = self.done() if differences or is_damaged else {}
        if any(self._name(block) in done for block in blocks):
            return
        if is_damaged and done:
            raise RunRefusedError(
                f"{self._identity} is damaged, and its {len(done)} done blocks were computed with other settings or "
                "for another region",
                hint=f"repeat the command that computed them, or recompute them with --restart {restart}",
            )
        if differences:
            raise other_identity(self.folder.name, differences, changes, restart)

    def claim(self) -> None:
        """Record the identity. Remove the `verified` mark."""
        self._verified.unlink(missing_ok=True)
        publish_text(self._identity, yaml.safe_dump(dict(self.identity), sort_keys=True))

    def verify(self) -> None:
        """Record that the inputs of the stage were complete when its last block was done."""
        publish_text(self._verified, "")

    def is_verified(self) -> bool:
        """Return whether `verify` was called since the identity was recorded."""
        return self._verified.exists()

    def is_same(self) -> bool:
        """Return whether the recorded identity equals this one. True if there is no record."""
        return not self._differences()

    def is_claimed(self) -> bool:
        """Return whether an identity is recorded, which happens when the stage begins."""
        return self._identity.exists()

    def done(self) -> dict[str, list[Stored] | None]:
        """Return the counts of files of each done block, by `index-token`. None if the mark has no counts."""
        return dict(_read_name(path.name) for path in _marks(self.folder / "done", _DONE))

    def pending(self, blocks: Sequence[Block]) -> list[Block]:
        """Return the blocks without a valid done mark, in the given order."""
        done = self.done()
        return [block for block in blocks if self._name(block) not in done]

    def stored(self, blocks: Sequence[Block]) -> list[tuple[Block, list[Stored]]]:
        """Return the done blocks, in the given order, with their counts of files. Omit blocks without counts."""
        done = self.done()
        known = ((block, done.get(self._name(block))) for block in blocks)
        return [(block, stored) for block, stored in known if stored is not None]

    def release(self, block: Block, stored: Sequence[Stored]) -> bool:
        """Mark a done block whose files are about to be removed. Return False if it has no done mark with `stored`."""
        done, name = self.folder / "done", self._name(block)
        with suppress(FileNotFoundError):
            os.replace(done / _mark(name, stored), done / f"{name}-{_RELEASED}")
            return True
        return False

    def released(self) -> set[int]:
        """Return the done blocks whose files were removed after all of their readers were done."""
        names: list[str] = []
        with suppress(FileNotFoundError):
            names = os.listdir(self.folder / "done")
        return {int(name.split("-")[0]) for name in names if name.endswith(_RELEASED) and _DONE.fullmatch(name)}

    def holds_any(self) -> bool:
        """Return whether any done block was not released."""
        return any(not path.name.endswith(_RELEASED) for path in _marks(self.folder / "done", _DONE))

    def release_all(self) -> None:
        """Mark all done blocks: their files are about to be removed."""
        for path in _marks(self.folder / "done", _DONE):
            index, token, *_ = path.name.split("-")
            os.replace(path, path.with_name(f"{index}-{token}-{_RELEASED}"))

    def mark_running(self, block: Block) -> None:
        """Mark a block as begun. If it had such a mark, mark it as begun again: an earlier worker died while it ran."""
        name = f"{block.index:08d}"
        if not _created(self.folder / "running", name):
            _created(self.folder / "again", name)

    def unmark_running(self, block: Block) -> None:
        """Remove the mark of a block that was begun and now waits for another block."""
        (self.folder / "running" / f"{block.index:08d}").unlink(missing_ok=True)

    def running(self) -> list[int]:
        """Return the blocks that were begun and are neither done nor failed."""
        return sorted(int(path.name) for path in _marks(self.folder / "running", _NUMBER, least_bytes=0))

    def interrupted(self) -> list[int]:
        """Return the blocks that killed processes were computing, if no run is active. Some may be done now."""
        again = _marks(self.folder / "again", _NUMBER, least_bytes=0)
        return sorted({*self.running(), *(int(path.name) for path in again)})

    def end(self) -> None:
        """Remove the marks of begun blocks. Call it when no run is active."""
        for name in ("running", "again"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def mark_done(self, block: Block, record: Mapping[str, Any], stored: Sequence[Stored] = ()) -> None:
        """Mark a block done, with `record` as the content and `stored` in the name. Remove its failure, if any."""
        # The mark is not flushed to disk: if a crash removes it, the block is recomputed. The mark of the begun block
        # is renamed, since creating a file takes longer than writing to one.
        begun, mark = (
            f"{self.folder}/running/{block.index:08d}",
            f"{self.folder}/done/{_mark(self._name(block), stored)}",
        )
        text = json.dumps({**record, "time": time.time()})
        with path_in_errors(mark):
            try:
                _write_and_rename(begun, mark, text)
            except FileNotFoundError:
                for path in (begun, mark):
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                _write_and_rename(begun, mark, text)
        with suppress(FileNotFoundError):
            os.unlink(f"{self.folder}/failed/{block.index:08d}")

    def mark_failed(self, block: Block, cause: str) -> None:
        """Record why a block failed. The record is not flushed to disk: if it is lost, the block is retried."""
        publish_text(self.folder / "failed" / f"{block.index:08d}", cause, flush=False)
        (self.folder / "running" / f"{block.index:08d}").unlink(missing_ok=True)

    def refresh(self) -> None:
        """Make the next listings show the marks of other machines."""
        for name in ("done", "failed"):
            if (self.folder / name).is_dir():
                renew_listing(self.folder / name)

    def clear(self, blocks: Sequence[Block]) -> None:
        """Remove done marks and failures of blocks that are about to be recomputed."""
        indices = {f"{block.index:08d}" for block in blocks}
        for path in _marks(self.folder / "done", _DONE, least_bytes=0):
            if path.name.split("-")[0] in indices:
                path.unlink(missing_ok=True)
        self.clear_failures(blocks)

    def clear_failures(self, blocks: Sequence[Block]) -> None:
        """Remove failures of blocks that are about to be recomputed."""
        indices = {block.index for block in blocks}
        for index in self.failed() & indices:
            (self.folder / "failed" / f"{index:08d}").unlink(missing_ok=True)

    def keep_newest(self, blocks: Sequence[Block]) -> None:
        """Keep only the newest done mark of each recomputed block: other library versions may store other sizes."""
        indices = {f"{block.index:08d}" for block in blocks}
        newest: dict[str, Path] = {}
        for path in sorted(_marks(self.folder / "done", _DONE), key=lambda mark: mark.stat().st_mtime_ns):
            number, token, *_ = path.name.split("-")
            if number in indices:
                if older := newest.get(f"{number}-{token}"):
                    older.unlink(missing_ok=True)
                newest[f"{number}-{token}"] = path

    def failed(self) -> set[int]:
        """Return the failed blocks."""
        return {int(path.name) for path in _marks(self.folder / "failed", _NUMBER)}

    def failures(self) -> dict[int, str]:
        """Return the cause of each failed block. This reads one file per block."""
        found = sorted(_marks(self.folder / "failed", _NUMBER))
        return {int(path.name): path.read_text(errors="replace") for path in found}

    def records(self) -> list[dict[str, Any]]:
        """Return the records of the done marks. Omit marks whose values are not numbers."""
        records = []
        for path in _marks(self.folder / "done", _DONE):
            record = {**_UNKNOWN, "block": int(path.name.split("-")[0]), **(mapping_in(path) or {})}
            if all(isinstance(record[name], int | float) for name in _UNKNOWN):
                records.append(record)
        return records

    def checksums(self, blocks: Sequence[Block]) -> Iterator[tuple[Block, dict[str, list[int]] | None]]:
        """Yield each block with bytes and CRC-32 of its files, by their paths when they were written.

        Yield None for a block on a server, and for a block whose mark is damaged or from an earlier version.
        """
        marks = {_read_name(path.name)[0]: path for path in _marks(self.folder / "done", _DONE)}
        for block in blocks:
            mark = marks[self._name(block)]
            files = (mapping_in(mark) or {}).get("files")
            stored = _read_name(mark.name)[1]
            is_known = isinstance(files, dict) and stored and len(files) == sum(each.files for each in stored)
            yield block, files if is_known else None

    def forget(self) -> None:
        """Remove all marks and the identity. The stage will be recomputed."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def forget_blocks(self) -> None:
        """Remove all marks of blocks. Keep the identity."""
        for folder in (self.folder / "done", self.folder / "failed"):
            if folder.exists():
                shutil.rmtree(folder)
        self._verified.unlink(missing_ok=True)

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
        """Return the recorded identity. Empty if it is missing or damaged: done marks contain its hash."""
        return mapping_in(self._identity) or {}

    @property
    def _verified(self) -> Path:
        return self.folder / "verified"

    @property
    def _identity(self) -> Path:
        return self.folder / "identity.yaml"

    def _name(self, block: Block) -> str:
        return f"{block.index:08d}-{self.token(block)}"


def _mark(name: str, stored: Sequence[Stored]) -> str:
    """Return the name of a done mark. `stored` are the counts of files, one for each artifact."""
    return "-".join([name, *(f"{each.files}.{each.size}" for each in stored)])


def _read_name(name: str) -> tuple[str, list[Stored] | None]:
    """Return `index-token` and the counts of files from the name of a done mark."""
    index, token, *counts = name.removesuffix(f"-{_RELEASED}").split("-")
    stored = [Stored(int(files), int(size)) for files, _, size in (count.partition(".") for count in counts)]
    return f"{index}-{token}", stored or None


def _write_and_rename(temporary: str, path: str, text: str) -> None:
    with open(temporary, "w") as file:
        file.write(text)
    os.replace(temporary, path)


def _created(folder: Path, name: str) -> bool:
    """Create an empty mark. Return False if it exists."""
    path = f"{folder}/{name}"
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        return False
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        return _created(folder, name)
    return True


def _marks(folder: Path, names: re.Pattern[str], *, least_bytes: int = 1) -> list[Path]:
    """Return the marks in a folder. Omit temporary files, and files that a crash left shorter than `least_bytes`."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        named = [entry for entry in entries if names.fullmatch(entry.name)]
        return [folder / entry.name for entry in named if least_bytes == 0 or entry.stat().st_size >= least_bytes]
