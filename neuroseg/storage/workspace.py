"""The workspace: one plain folder a person can list, and where each artifact lies in it."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from neuroseg.configuration import read_yaml
from neuroseg.errors import InputError, RunRefusedError
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.publish import publish_text
from neuroseg.storage.remote import is_remote

REDUCED = "reduced"
_LOCK_PATIENCE_S = 2.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workspace:
    """The folder of a run, `V.neuroseg/` beside the volume by default."""

    path: Path

    @property
    def affinities(self) -> Path:
        """Bare array (c, z, y, x) uint8 with the attribute `offsets`."""
        return self.path / "affinities.zarr"

    @property
    def sections(self) -> Path:
        """Histograms of raw, one part per slab of sections, where sections are normalised."""
        return self.path / "sections"

    @property
    def provisional(self) -> Path:
        """Fragments under the names that their blocks gave them: bare array (z, y, x) uint64."""
        return self.path / "provisional.zarr"

    @property
    def fragments(self) -> Path:
        """Fragments under their final names: bare array (z, y, x) uint64."""
        return self.path / "fragments.zarr"

    @property
    def entries(self) -> Path:
        """Entry tables, one part per block: how the blocks' fragments meet."""
        return self.path / "entries"

    @property
    def edges(self) -> Path:
        """The edge table, one part per block."""
        return self.path / "edges"

    @property
    def bins(self) -> Path:
        """Histograms of the edges' affinities, one part per block, where the scoring needs them."""
        return self.path / "bins"

    @property
    def long_range(self) -> Path:
        """What long-range channels say of pairs of fragments, touching or not: tables like the edges'."""
        return self.path / "long_range"

    @property
    def long_range_bins(self) -> Path:
        """Their histograms, where the scoring needs them."""
        return self.path / "long_range_bins"

    @property
    def nodes(self) -> Path:
        """The node table, one part per block."""
        return self.path / "nodes"

    def reduced(self, table: str) -> Path:
        """One of the tables above, a part for each range of fragments."""
        return self.path / reduced(table)

    @property
    def tree(self) -> Path:
        """The merge tree: (a, b, score) in merge order."""
        return self.path / "merges" / "tree.parquet"

    @property
    def all_nodes(self) -> Path:
        """The node table of the whole volume."""
        return self.path / "merges" / "nodes.parquet"

    @property
    def lookup(self) -> Path:
        """The segment of each fragment at the stored threshold, as an array that workers map into memory."""
        return self.path / "merges" / "lookup.npy"

    @property
    def segmentation(self) -> Path:
        """OME-NGFF label image."""
        return self.path / "segmentation.zarr"

    def segmentation_aside(self, token: str) -> Path:
        """A segmentation while it is written, beside the finished one; `token` hashes what it will be."""
        return self.path / f".segmentation.{token}.partial.zarr"

    def publish_segmentation(self, aside: Path) -> None:
        """Swap a finished segmentation in; the one before and all unfinished ones are removed."""
        before = self.path / ".segmentation.before.zarr"
        shutil.rmtree(before, ignore_errors=True)
        if self.segmentation.exists():
            os.replace(self.segmentation, before)
        os.replace(aside, self.segmentation)
        self.remove_unfinished_segmentations()

    def remove_unfinished_segmentations(self, keep: Path | None = None) -> None:
        """Remove segmentations that are not the finished one, except `keep`."""
        for path in self.path.glob(".segmentation.*"):
            if path != keep:
                shutil.rmtree(path, ignore_errors=True)

    @property
    def logs(self) -> Path:
        """Logs of the workers."""
        return self.path / "logs"

    def ledger(self, stage: str, identity: Mapping[str, Any], scope: str = "") -> StageLedger:
        """Return the ledger of one stage."""
        return StageLedger(self.path / "ledger" / stage, identity, scope)

    def read_run(self) -> dict[str, Any]:
        """Return `run.yaml`; raises InputError when the folder is not a workspace."""
        if not self.path.exists():
            raise InputError(f"{self.path} does not exist; neuroseg run VOLUME makes a workspace")
        if not (self.path / "run.yaml").is_file():
            beside = default_workspace(str(self.path))
            hint = f"; did you mean {beside}?" if beside != self.path and is_workspace(beside) else ""
            raise InputError(f"{self.path} is not a workspace: it has no run.yaml{hint}")
        return read_yaml(self.path / "run.yaml")

    def write_run(self, content: Mapping[str, Any]) -> None:
        """Write `run.yaml`: what is needed to reproduce the run."""
        publish_text(self.path / "run.yaml", yaml.safe_dump(dict(content), sort_keys=False, width=120))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the workspace; raises RunRefusedError when another run holds it.

        The kernel gives up the lock of a process that dies; its name, which then still stands in the file, tells that
        the process could not clear away what it was writing.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("a+")
        except OSError as error:
            raise InputError(f"cannot write to the workspace {self.path}: {error.strerror}") from error
        with handle:
            _acquire(handle, self.path)
            if died := _content(handle):
                logger.warning("the last run in %s (%s) was killed; continuing after it", self.path, died)
                self.remove_half_written()
                handle.truncate(0)
            try:
                handle.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}")
                handle.flush()
                yield
            except KeyboardInterrupt:
                self.remove_half_written()
                raise
            finally:
                handle.truncate(0)

    def is_worked_on(self) -> bool:
        """Return whether a run holds the workspace."""
        try:
            with (self.path / ".lock").open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False  # no run yet, or a disk without locks
        return False

    def remove_half_written(self) -> None:
        """Remove the files that killed processes were writing; they would have been renamed when whole."""
        for path in self.path.rglob("*.partial"):
            path.unlink(missing_ok=True)


def _acquire(handle: IO[str], path: Path) -> None:
    """Take the lock; a process that was just killed gets a moment to be gone."""
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                holder = _content(handle) or "unknown"
                raise RunRefusedError(
                    f"another run ({holder}) works in {path}; wait for it or choose another workspace with -o"
                ) from error
            time.sleep(0.05)


def _content(handle: IO[str]) -> str:
    handle.seek(0)
    return handle.read().strip()


def reduced(table: str) -> str:
    """Return the name of a reduced table's folder in a workspace."""
    return f"{REDUCED}/{table}"


def default_workspace(volume_path: str) -> Path:
    """Return `V.neuroseg` beside the volume `V.zarr`; for an array inside a zarr, beside that zarr.

    `file.h5:dataset` gives `file_dataset.neuroseg`; a volume on a server has its workspace in the current folder.
    """
    if is_remote(volume_path):
        parts = volume_path.partition("://")[2].rstrip("/").split("/")
        name = next((part for part in reversed(parts) if part.endswith(".zarr")), parts[-1])
        return Path(f"{name.removesuffix('.zarr')}.neuroseg")
    path = Path(volume_path)
    if ":" in path.name:
        file, _, dataset = path.name.partition(":")
        return path.with_name(f"{Path(file).stem}_{dataset}.neuroseg")
    if path.suffix == ".neuroseg":
        return path
    root = next((parent for parent in (path, *path.parents) if parent.suffix == ".zarr"), path)
    return root.with_suffix(".neuroseg") if root.suffix == ".zarr" else root.with_name(root.name + ".neuroseg")


def is_unused(path: Path) -> bool:
    """Return whether a run may begin in the folder: nothing is there, or only what a run leaves that barely began."""
    if not path.exists():
        return True
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= {".lock", "ledger"}


def is_workspace(path: Path) -> bool:
    """Return whether `path` is the folder of a run."""
    return (path / "run.yaml").is_file()
