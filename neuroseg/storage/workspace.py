"""The workspace: the folder of a run, and the place of each artifact in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from neuroseg.errors import InputError
from neuroseg.storage.claim import claim_artifacts, stored_at
from neuroseg.storage.half_written import remove_partial_files
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.lock import is_locked, locked
from neuroseg.storage.naming import STORE, default_workspace, is_workspace
from neuroseg.storage.publish import publish_text
from neuroseg.storage.remote import is_remote, is_writable, require_writable
from neuroseg.storage.remote_path import RemotePath, remote_path
from neuroseg.storage.state import read_mapping, require_version
from neuroseg.storage.trees import Place

MERGES = "merges"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workspace:
    """The folder of a run, by default `V.neuroseg/` next to the volume.

    Artifacts lie in this folder, or on a server at the address `store`. If `store` is None, the address recorded in the
    folder is used.
    """

    path: Path
    store: str | None = None

    @cached_property
    def artifacts(self) -> Place:
        """The place that contains the artifacts."""
        address = self.store or stored_at(self.path)
        return self.path if address is None else remote_path(address)

    def artifact(self, name: str) -> Place:
        """The place of an artifact with the name that stages use."""
        return self.artifacts / name

    @property
    def affinities(self) -> Place:
        """Array (c, z, y, x) uint8 with the attribute `offsets`."""
        return self.artifacts / "affinities.zarr"

    @property
    def sections(self) -> Place:
        """Histograms of raw, one part per slab of sections. Only written if sections are normalised."""
        return self.artifacts / "sections"

    @property
    def provisional(self) -> Place:
        """Fragments with the provisional names from their blocks: array (z, y, x) uint64."""
        return self.artifacts / "provisional.zarr"

    @property
    def fragments(self) -> Place:
        """Fragments with their final names: array (z, y, x) uint64."""
        return self.artifacts / "fragments.zarr"

    @property
    def entries(self) -> Place:
        """Entry tables, one part per block: how fragments of neighbouring blocks connect."""
        return self.artifacts / "entries"

    @property
    def edges(self) -> Place:
        """The edge table, one part per block."""
        return self.artifacts / "edges"

    @property
    def bins(self) -> Place:
        """Histograms of the edges' affinities, one part per block. Only written if the scoring needs them."""
        return self.artifacts / "bins"

    @property
    def long_range(self) -> Place:
        """Tables like `edges` of the long-range affinities, whose pairs of fragments need not touch."""
        return self.artifacts / "long_range"

    @property
    def long_range_bins(self) -> Place:
        """Histograms of the long-range affinities. Only written if the scoring needs them."""
        return self.artifacts / "long_range_bins"

    @property
    def nodes(self) -> Place:
        """The node table, one part per block."""
        return self.artifacts / "nodes"

    @property
    def tree(self) -> Place:
        """The merge tree: (a, b, score) in merge order; if the region has several groups, the merges of the last one.

        It exists only if the merges of all groups do. storage/merges.py reads all of them.
        """
        return self.artifacts / MERGES / "tree.parquet"

    @property
    def all_nodes(self) -> Place:
        """The node table of the whole region, or its fragments that only the last group knows completely."""
        return self.artifacts / MERGES / "nodes.parquet"

    @property
    def lookup(self) -> Place:
        """The segment of each fragment at the threshold of the run: an array that workers memory-map."""
        return self.artifacts / MERGES / "lookup.npy"

    @property
    def segmentation(self) -> Place:
        """OME-NGFF label image. Its arrays are in `labels_of` (labels.py)."""
        return self.artifacts / "segmentation.zarr"

    @property
    def edits(self) -> Path:
        """Edits by hand, one per line."""
        return self.path / "edits.jsonl"

    @property
    def logs(self) -> Path:
        """Logs of the workers."""
        return self.path / "logs"

    def ledger(self, stage: str, identity: Mapping[str, Any], scope: str = "") -> StageLedger:
        """Return the ledger of one stage."""
        return StageLedger(self.path / "ledger" / stage, identity, scope)

    def read_run(self) -> dict[str, Any]:
        """Return the content of `run.yaml`.

        Raises InputError if the folder is not a workspace, or if a newer version of neuroseg wrote it.
        """
        if not self.path.exists():
            raise InputError(f"the workspace {self.path} does not exist", hint="create one: neuroseg run VOLUME")
        if not (self.path / "run.yaml").is_file():
            default = default_workspace(str(self.path))
            hint = f"did you mean {default}?" if default != self.path and is_workspace(default) else ""
            raise InputError(f"{self.path} is not a workspace: it has no run.yaml", hint=hint)
        path = self.path / "run.yaml"
        content = read_mapping(path)
        if content is None or not isinstance(content.get("plan"), dict):
            raise InputError(
                f"{path} is damaged: it does not describe a run",
                hint=f"remove it and repeat the complete command of the run with -o {self.path}; done blocks are kept",
            )
        require_version(path, content.get("neuroseg"))
        return content

    def write_run(self, content: Mapping[str, Any]) -> None:
        """Write `run.yaml`, which contains all settings of the run."""
        publish_text(self.path / "run.yaml", yaml.safe_dump(dict(content), sort_keys=False, width=120))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the workspace (storage/lock.py). Raises RunRefusedError if another run holds it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            held = ExitStack()
            killed = held.enter_context(locked(self.path))
        except OSError as error:
            raise InputError(f"cannot write to the workspace {self.path}: {error.strerror}") from error
        with held:
            if killed is not None:
                logger.warning("the last run in %s (%s) was killed; resuming it", self.path, killed)
                self._remove_half_written()
            if isinstance(self.artifacts, RemotePath):
                claim_artifacts(self.path, self.artifacts)
            else:
                (self.path / STORE).unlink(missing_ok=True)  # left by a run that did not begin
            yield

    def is_in_use(self) -> bool:
        """Return whether a run holds the lock of the workspace."""
        return is_locked(self.path)

    def _remove_half_written(self) -> None:
        """Remove temporary files of a killed head. Those of its workers are removed when their stage resumes."""
        remove_partial_files([self.path, self.path / "ledger", *(self.path / "ledger").glob("*/")])


def level_table(level: int, table: str) -> str:
    """Return the name of the folder with a table of the groups of one level, one part for each group."""
    return f"{MERGES}/level-{level}/{table}"


def workspace_of(address: str) -> Workspace:
    """Return the workspace at a path, or the one whose artifacts are at an address on a server.

    For an address, ledger and logs lie in the folder `NAME.neuroseg` in the current folder. Raises InputError for an
    invalid address, and if that folder belongs to other artifacts.
    """
    if not is_remote(address):
        return Workspace(Path(address))
    require_writable(address)
    address = address.rstrip("/")
    if not address.endswith(".neuroseg") or address.count("/") < 3:
        raise InputError(
            f"{address} is not a valid address of a workspace", hint="use an address such as s3://BUCKET/NAME.neuroseg"
        )
    if odd := set(address) & set("#%"):
        raise InputError(
            f"{address} contains {' and '.join(sorted(odd))}, which not all servers support",
            hint="use an address without it",
        )
    folder = default_workspace(address)
    known = stored_at(folder)
    if known != address and is_workspace(folder):
        raise InputError(
            f"the ledger and logs of {address} belong in {folder.resolve()}, which is already the workspace of "
            f"{known or 'another run'}",
            hint="change to another folder, or choose another name with -o",
        )
    return Workspace(folder, address)


def named_workspace(address: str) -> Workspace | None:
    """Return the workspace at an address, or None if the address is not a workspace."""
    if is_remote(address):
        named = address.rstrip("/").endswith(".neuroseg") and is_writable(address)
        return workspace_of(address) if named else None
    return Workspace(Path(address)) if is_workspace(Path(address)) else None
