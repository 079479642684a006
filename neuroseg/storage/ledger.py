"""The ledger: what is done, and the hash of what did it.

    ledger/fragments/identity.yaml       the keys and values whose change would change the stage's bytes
    ledger/fragments/done/00000007-9f2c-1.830-0.0
                                         block 7 is complete; a hash of the identity and the block's region; then, for
                                         each artifact of the stage, the number and the bytes of the block's files
    ledger/affinities/done/00000003-81aa-released
                                         block 3 was complete; its files were removed once all that read them was done
    ledger/fragments/failed/00000008     why block 8 failed
    ledger/fragments/running/00000009    block 9 was begun, and is done, failed or given up when the stage is over
    ledger/fragments/verified            what the stage read was whole when its last block was done

A mark is a file, so that marking is atomic and a listing of the folder is the state of the stage.
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
from neuroseg.storage.publish import publish_text
from neuroseg.storage.space import naming
from neuroseg.storage.state import mapping_in
from neuroseg.storage.stored import Stored
from neuroseg.storage.trees import renew_listing

_TOKEN_LENGTH = 12
_RELEASED = "released"
_DONE = re.compile(rf"\d+-[0-9a-f]+((-\d+\.\d+)*|-{_RELEASED})")
_NUMBER = re.compile(r"\d+")
# What `status` and summaries read of a mark, where it holds nothing else.
_UNKNOWN: Mapping[str, float] = {"time": 0.0, "seconds": 0.0, "voxels": 0, "peak_mib": 0}
NO_WORDS: Mapping[str, str] = {}


@dataclass(frozen=True)
class StageLedger:
    """The done marks of one stage under one identity; `scope` joins the hash of every block (see Stage.scope)."""

    folder: Path
    identity: Mapping[str, Any]
    scope: str = ""

    @property
    def run_folder(self) -> Path:
        """The workspace that the ledger lies in."""
        return self.folder.parent.parent

    def token(self, block: Block) -> str:
        """Return the hash that a done mark of `block` must carry."""
        regions = json.dumps([describe_box(block.write_box), describe_box(block.read_box), self.scope])
        described = f"[{self._identity_text}, {regions[1:]}"
        return hashlib.sha256(described.encode()).hexdigest()[:_TOKEN_LENGTH]

    @cached_property
    def _identity_text(self) -> str:
        return json.dumps(dict(self.identity), sort_keys=True)

    def require_same(self, restart: str, in_words: Mapping[str, str] = NO_WORDS, blocks: Sequence[Block] = ()) -> None:
        """Raise RunRefusedError naming the keys that differ from the recorded identity, if there is one.

        Where one of the stage's `blocks` is done under this identity, the record is damaged, and refused by nobody.
        `restart` is the stage that a restart redoes it with; `in_words` describes changes of keys whose values are
        hashes.
        """
        differences, is_damaged = self._differences(in_words), self.is_claimed() and not self._recorded()
        done = self.done() if differences or is_damaged else {}
        if any(self._name(block) in done for block in blocks):
            return
        if is_damaged and done:
            raise RunRefusedError(
                f"{self._identity} is damaged, and its {len(done)} done blocks were made with other settings or of "
                f"another region; give the command that made them, or redo them with --restart {restart}"
            )
        if differences:
            keep = "Restore it" if set(differences) <= set(in_words.values()) else "Keep the old values"
            raise RunRefusedError(
                f"stage {self.folder.name} was made of other input or with other settings: {'; '.join(differences)}. "
                f"{keep}, or use --restart {restart} to redo it and what follows, or another workspace (-o)"
            )

    def claim(self) -> None:
        """Record the identity."""
        self._verified.unlink(missing_ok=True)
        publish_text(self._identity, yaml.safe_dump(dict(self.identity), sort_keys=True))

    def verify(self) -> None:
        """Note that what the stage read was whole when its last block was done."""
        publish_text(self._verified, "")

    def is_verified(self) -> bool:
        """Return whether what the stage read was whole when its last block was done."""
        return self._verified.exists()

    def is_same(self) -> bool:
        """Return whether the recorded identity, if there is one, is this one."""
        return not self._differences()

    def is_claimed(self) -> bool:
        """Return whether the stage was ever begun."""
        return self._identity.exists()

    def done(self) -> dict[str, list[Stored] | None]:
        """Return what each done block stored of the stage's artifacts, by `index-token`; None where that is unknown."""
        return dict(_read_name(path.name) for path in _marks(self.folder / "done", _DONE))

    def pending(self, blocks: Sequence[Block]) -> list[Block]:
        """Return the blocks without a valid done mark, in their order."""
        done = self.done()
        return [block for block in blocks if self._name(block) not in done]

    def stored(self, blocks: Sequence[Block]) -> list[tuple[Block, list[Stored]]]:
        """Return the done blocks, in their order, with what each stored of the stage's artifacts; only where known."""
        done = self.done()
        known = ((block, done.get(self._name(block))) for block in blocks)
        return [(block, stored) for block, stored in known if stored is not None]

    def release(self, block: Block, stored: Sequence[Stored]) -> bool:
        """Note that a done block's files are about to be removed; False where it is not done, or stored other files."""
        done, name = self.folder / "done", self._name(block)
        with suppress(FileNotFoundError):
            os.replace(done / _mark(name, stored), done / f"{name}-{_RELEASED}")
            return True
        return False

    def released(self) -> set[int]:
        """Return the blocks that are done and whose files were removed when all that read them was done."""
        names: list[str] = []
        with suppress(FileNotFoundError):
            names = os.listdir(self.folder / "done")
        return {int(name.split("-")[0]) for name in names if name.endswith(_RELEASED) and _DONE.fullmatch(name)}

    def holds_any(self) -> bool:
        """Return whether any block is done whose files were not released."""
        return any(not path.name.endswith(_RELEASED) for path in _marks(self.folder / "done", _DONE))

    def release_all(self) -> None:
        """Note that the files of all done blocks are about to be removed."""
        for path in _marks(self.folder / "done", _DONE):
            index, token, *_ = path.name.split("-")
            os.replace(path, path.with_name(f"{index}-{token}-{_RELEASED}"))

    def mark_running(self, block: Block) -> None:
        """Note that a block was begun, and where it had been before, that a worker died of it or with it."""
        name = f"{block.index:08d}"
        if not _created(self.folder / "running", name):
            _created(self.folder / "again", name)

    def unmark_running(self, block: Block) -> None:
        """Forget that a block was begun: it waits for another one."""
        (self.folder / "running" / f"{block.index:08d}").unlink(missing_ok=True)

    def running(self) -> list[int]:
        """Return the blocks that were begun and are neither done nor failed; where nobody works, they were cut off."""
        return sorted(int(path.name) for path in _marks(self.folder / "running", _NUMBER, least_bytes=0))

    def cut_off(self) -> list[int]:
        """Return the blocks that a process was cut off at, where nobody works any more; they may be done since."""
        again = _marks(self.folder / "again", _NUMBER, least_bytes=0)
        return sorted({*self.running(), *(int(path.name) for path in again)})

    def end(self) -> None:
        """Forget what was begun: nobody works any more."""
        for name in ("running", "again"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def mark_done(self, block: Block, record: Mapping[str, Any], stored: Sequence[Stored] = ()) -> None:
        """Mark a block complete, with numbers about it and what it stored; a failure of the block is removed.

        The mark is not flushed to disk: what it tells of is, and a mark that a crash takes away only costs the block
        once more. It is the file that says that the block was begun, written and renamed: files cost more than text.
        """
        begun, mark = (
            f"{self.folder}/running/{block.index:08d}",
            f"{self.folder}/done/{_mark(self._name(block), stored)}",
        )
        text = json.dumps({**record, "time": time.time()})
        with naming(mark):
            try:
                _write_and_rename(begun, mark, text)
            except FileNotFoundError:
                for path in (begun, mark):
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                _write_and_rename(begun, mark, text)
        with suppress(FileNotFoundError):
            os.unlink(f"{self.folder}/failed/{block.index:08d}")

    def mark_failed(self, block: Block, cause: str) -> None:
        """Record why a block failed; not flushed to disk, since a failure that is forgotten is only tried again."""
        publish_text(self.folder / "failed" / f"{block.index:08d}", cause, flush=False)
        (self.folder / "running" / f"{block.index:08d}").unlink(missing_ok=True)

    def refresh(self) -> None:
        """Have the next listings show what other machines marked."""
        for name in ("done", "failed"):
            if (self.folder / name).is_dir():
                renew_listing(self.folder / name)

    def clear(self, blocks: Sequence[Block]) -> None:
        """Remove older marks and failures of blocks that are about to be processed again."""
        indices = {f"{block.index:08d}" for block in blocks}
        for path in _marks(self.folder / "done", _DONE, least_bytes=0):
            if path.name.split("-")[0] in indices:
                path.unlink(missing_ok=True)
        self.clear_failures(blocks)

    def clear_failures(self, blocks: Sequence[Block]) -> None:
        """Remove failures of blocks that are about to be processed again."""
        indices = {block.index for block in blocks}
        for index in self.failed() & indices:
            (self.folder / "failed" / f"{index:08d}").unlink(missing_ok=True)

    def keep_newest(self, blocks: Sequence[Block]) -> None:
        """Remove older marks of blocks that were done again: another library may have stored other sizes."""
        indices = {f"{block.index:08d}" for block in blocks}
        newest: dict[str, Path] = {}
        for path in sorted(_marks(self.folder / "done", _DONE), key=lambda mark: mark.stat().st_mtime_ns):
            number, token, *_ = path.name.split("-")
            if number in indices:
                if older := newest.get(f"{number}-{token}"):
                    older.unlink(missing_ok=True)
                newest[f"{number}-{token}"] = path

    def failed(self) -> set[int]:
        """Return the blocks whose failure was recorded; no cause is read."""
        return {int(path.name) for path in _marks(self.folder / "failed", _NUMBER)}

    def failures(self) -> dict[int, str]:
        """Return the cause of each failed block. Every cause is a file: call it once."""
        found = sorted(_marks(self.folder / "failed", _NUMBER))
        return {int(path.name): path.read_text(errors="replace") for path in found}

    def records(self) -> list[dict[str, Any]]:
        """Return the numbers that the done marks carry; marks with anything else in their place are left out."""
        records = []
        for path in _marks(self.folder / "done", _DONE):
            record = {**_UNKNOWN, "block": int(path.name.split("-")[0]), **(mapping_in(path) or {})}
            if all(isinstance(record[name], int | float) for name in _UNKNOWN):
                records.append(record)
        return records

    def checksums(self, blocks: Sequence[Block]) -> Iterator[tuple[Block, dict[str, list[int]] | None]]:
        """Yield each block with bytes and CRC-32 of the files that it stored, by their paths when they were written.

        None stands for blocks that a server stores, and for those whose mark is damaged or of an earlier version.
        """
        marks = {_read_name(path.name)[0]: path for path in _marks(self.folder / "done", _DONE)}
        for block in blocks:
            mark = marks[self._name(block)]
            files = (mapping_in(mark) or {}).get("files")
            stored = _read_name(mark.name)[1]
            is_known = isinstance(files, dict) and stored and len(files) == sum(each.files for each in stored)
            yield block, files if is_known else None

    def forget(self) -> None:
        """Remove all marks and the identity: the stage will be redone."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def forget_blocks(self) -> None:
        """Remove all marks of blocks, not the identity."""
        for folder in (self.folder / "done", self.folder / "failed"):
            if folder.exists():
                shutil.rmtree(folder)
        self._verified.unlink(missing_ok=True)

    def _differences(self, in_words: Mapping[str, str] = NO_WORDS) -> list[str]:
        """Return `key: old -> new`, or words, for each key whose recorded value differs."""
        stored, wanted = self._recorded(), dict(self.identity)
        if not stored:
            return []
        keys = sorted(map(str, stored.keys() | wanted.keys()))
        return [
            in_words.get(key) or f"{key}: {stored.get(key)!r} -> {wanted.get(key)!r}"
            for key in keys
            if stored.get(key) != wanted.get(key)
        ]

    def _recorded(self) -> dict[str, Any]:
        """Return the recorded identity; nothing where there is none, or a damaged one: each mark hashes it."""
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
    """Return the name of the done mark of a block that stored so much of each artifact."""
    return "-".join([name, *(f"{each.files}.{each.size}" for each in stored)])


def _read_name(name: str) -> tuple[str, list[Stored] | None]:
    """Return `index-token` of a done mark's name, and what the block stored."""
    index, token, *counts = name.removesuffix(f"-{_RELEASED}").split("-")
    stored = [Stored(int(files), int(size)) for files, _, size in (count.partition(".") for count in counts)]
    return f"{index}-{token}", stored or None


def _write_and_rename(aside: str, path: str, text: str) -> None:
    with open(aside, "w") as file:
        file.write(text)
    os.replace(aside, path)


def _created(folder: Path, name: str) -> bool:
    """Return whether an empty mark was made; False where there was one."""
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
    """Return the marks in a folder.

    What a killed process was still writing is none, nor is an empty file: a crash left that.
    """
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        named = [entry for entry in entries if names.fullmatch(entry.name)]
        return [folder / entry.name for entry in named if least_bytes == 0 or entry.stat().st_size >= least_bytes]
