"""The ledger: what is done, and the hash of what did it.

    ledger/fragments/identity.yaml       the keys and values whose change would change the stage's bytes
    ledger/fragments/done/00000007-9f2c  block 7 is complete; the suffix hashes the identity and the block's region
    ledger/fragments/failed/00000008     why block 8 failed
    ledger/fragments/running/00000009    block 9 was begun, and is done, failed or given up when the stage is over

A mark is a file, so that marking is atomic and a listing of the folder is the state of the stage.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from neuroseg.blocks import Block
from neuroseg.errors import RunRefusedError
from neuroseg.geometry import describe
from neuroseg.storage.publish import publish_text

_TOKEN_LENGTH = 12


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
        described = [dict(self.identity), describe(block.write_roi), describe(block.read_roi), self.scope]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:_TOKEN_LENGTH]

    def require_same(self, restart: str) -> None:
        """Raise RunRefusedError naming the keys that differ from the recorded identity, if there is one.

        `restart` is the stage that a restart redoes it with.
        """
        differences = self._differences()
        if differences:
            raise RunRefusedError(
                f"stage {self.folder.name} was made with other settings: {'; '.join(differences)}. "
                f"Keep the old values, or use --restart {restart} to redo it and what follows, or another "
                "workspace (-o). Another block size would not change the result"
            )

    def claim(self) -> None:
        """Record the identity."""
        publish_text(self.folder / "identity.yaml", yaml.safe_dump(dict(self.identity), sort_keys=True))

    def is_same(self) -> bool:
        """Return whether the recorded identity, if there is one, is this one."""
        return not self._differences()

    def is_claimed(self) -> bool:
        """Return whether the stage was ever begun."""
        return (self.folder / "identity.yaml").exists()

    def done(self) -> set[str]:
        """Return the names of all done marks, `index-token`."""
        return {path.name for path in _marks(self.folder / "done")}

    def pending(self, blocks: Sequence[Block]) -> list[Block]:
        """Return the blocks without a valid done mark, in their order."""
        done = self.done()
        return [block for block in blocks if self._name(block) not in done]

    def mark_running(self, block: Block) -> None:
        """Note that a block was begun."""
        folder = self.folder / "running"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{block.index:08d}").touch()

    def running(self) -> list[int]:
        """Return the blocks that were begun and are neither done nor failed; where nobody works, they were cut off."""
        return sorted(int(path.name) for path in _marks(self.folder / "running"))

    def end(self) -> None:
        """Forget what was begun: nobody works any more."""
        shutil.rmtree(self.folder / "running", ignore_errors=True)

    def mark_done(self, block: Block, record: Mapping[str, Any]) -> None:
        """Mark a block complete, with numbers about it; a failure of the block is removed."""
        publish_text(self.folder / "done" / self._name(block), json.dumps({**record, "time": time.time()}))
        for past in ("failed", "running"):
            (self.folder / past / f"{block.index:08d}").unlink(missing_ok=True)

    def mark_failed(self, block: Block, cause: str) -> None:
        """Record why a block failed."""
        publish_text(self.folder / "failed" / f"{block.index:08d}", cause)
        (self.folder / "running" / f"{block.index:08d}").unlink(missing_ok=True)

    def clear(self, blocks: Sequence[Block]) -> None:
        """Remove older marks and failures of blocks that are about to be processed again."""
        indices = {f"{block.index:08d}" for block in blocks}
        for name in self.done():
            if name.split("-")[0] in indices:
                (self.folder / "done" / name).unlink(missing_ok=True)
        self.clear_failures(blocks)

    def clear_failures(self, blocks: Sequence[Block]) -> None:
        """Remove failures of blocks that are about to be processed again."""
        for block in blocks:
            (self.folder / "failed" / f"{block.index:08d}").unlink(missing_ok=True)

    def failures(self) -> dict[int, str]:
        """Return the cause of each failed block."""
        return {int(path.name): path.read_text() for path in sorted(_marks(self.folder / "failed"))}

    def records(self) -> list[dict[str, Any]]:
        """Return the numbers that the done marks carry."""
        return [json.loads(path.read_text()) for path in _marks(self.folder / "done")]

    def forget(self) -> None:
        """Remove all marks and the identity: the stage will be redone."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def forget_blocks(self) -> None:
        """Remove all marks of blocks, not the identity."""
        for folder in (self.folder / "done", self.folder / "failed"):
            if folder.exists():
                shutil.rmtree(folder)

    def _differences(self) -> list[str]:
        """Return `key: old -> new` for each key whose recorded value differs."""
        path = self.folder / "identity.yaml"
        if not path.exists():
            return []
        stored, wanted = yaml.safe_load(path.read_text()), dict(self.identity)
        keys = sorted(stored.keys() | wanted.keys())
        return [
            f"{key}: {stored.get(key)!r} -> {wanted.get(key)!r}" for key in keys if stored.get(key) != wanted.get(key)
        ]

    def _name(self, block: Block) -> str:
        return f"{block.index:08d}-{self.token(block)}"


def _marks(folder: Path) -> list[Path]:
    """Return the marks in a folder; what a killed process was still writing is none."""
    return [path for path in folder.iterdir() if path.name[0].isdigit()] if folder.is_dir() else []
