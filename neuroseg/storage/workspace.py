"""The workspace: one plain folder a person can list, and where each artifact lies in it."""

from __future__ import annotations

import logging
import secrets
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
from neuroseg.storage.trees import Place, discard, move_all, remove_all

REDUCED = "reduced"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workspace:
    """The folder of a run, `V.neuroseg/` beside the volume by default.

    Its artifacts lie in it, or below the address on a server that is given as `store` or that the folder names.
    """

    path: Path
    store: str | None = None

    @cached_property
    def artifacts(self) -> Place:
        """Where the artifacts lie."""
        address = self.store or stored_at(self.path)
        return self.path if address is None else remote_path(address)

    def artifact(self, name: str) -> Place:
        """One of the artifacts, as stages name them."""
        return self.artifacts / name

    @property
    def affinities(self) -> Place:
        """Bare array (c, z, y, x) uint8 with the attribute `offsets`."""
        return self.artifacts / "affinities.zarr"

    @property
    def sections(self) -> Place:
        """Histograms of raw, one part per slab of sections, where sections are normalised."""
        return self.artifacts / "sections"

    @property
    def provisional(self) -> Place:
        """Fragments under the names that their blocks gave them: bare array (z, y, x) uint64."""
        return self.artifacts / "provisional.zarr"

    @property
    def fragments(self) -> Place:
        """Fragments under their final names: bare array (z, y, x) uint64."""
        return self.artifacts / "fragments.zarr"

    @property
    def entries(self) -> Place:
        """Entry tables, one part per block: how the blocks' fragments meet."""
        return self.artifacts / "entries"

    @property
    def edges(self) -> Place:
        """The edge table, one part per block."""
        return self.artifacts / "edges"

    @property
    def bins(self) -> Place:
        """Histograms of the edges' affinities, one part per block, where the scoring needs them."""
        return self.artifacts / "bins"

    @property
    def long_range(self) -> Place:
        """What long-range channels say of pairs of fragments, touching or not: tables like the edges'."""
        return self.artifacts / "long_range"

    @property
    def long_range_bins(self) -> Place:
        """Their histograms, where the scoring needs them."""
        return self.artifacts / "long_range_bins"

    @property
    def nodes(self) -> Place:
        """The node table, one part per block."""
        return self.artifacts / "nodes"

    def reduced(self, table: str) -> Place:
        """One of the tables above, a part for each range of fragments."""
        return self.artifacts / reduced(table)

    @property
    def tree(self) -> Place:
        """The merge tree: (a, b, score) in merge order."""
        return self.artifacts / "merges" / "tree.parquet"

    @property
    def all_nodes(self) -> Place:
        """The node table of the whole volume."""
        return self.artifacts / "merges" / "nodes.parquet"

    @property
    def lookup(self) -> Place:
        """The segment of each fragment at the stored threshold, as an array that workers map into memory."""
        return self.artifacts / "merges" / "lookup.npy"

    @property
    def segmentation(self) -> Place:
        """OME-NGFF label image."""
        return self.artifacts / "segmentation.zarr"

    def segmentation_aside(self, token: str) -> Place:
        """A segmentation while it is written, beside the finished one; `token` hashes what it will be."""
        return self.artifacts / f".segmentation.{token}.partial.zarr"

    def publish_segmentation(self, aside: Place) -> None:
        """Swap a finished segmentation in; the one before and all unfinished ones are removed."""
        if isinstance(self.segmentation, Path) and self.segmentation.exists():
            move_all(self.segmentation, self.artifacts / f".segmentation.{secrets.token_hex(4)}.before.zarr")
        remove_all(self.segmentation)  # on a server, where moving it would copy it for nothing
        move_all(aside, self.segmentation)
        self.remove_unfinished_segmentations()

    def remove_unfinished_segmentations(self, keep: Place | None = None) -> None:
        """Remove segmentations that are not the finished one, except `keep`."""
        paths: list[Place] = list(self.artifacts.iterdir())
        for path in paths:
            if path.name.startswith(".segmentation.") and path != keep:
                discard(path)

    @property
    def logs(self) -> Path:
        """Logs of the workers."""
        return self.path / "logs"

    def ledger(self, stage: str, identity: Mapping[str, Any], scope: str = "") -> StageLedger:
        """Return the ledger of one stage."""
        return StageLedger(self.path / "ledger" / stage, identity, scope)

    def read_run(self) -> dict[str, Any]:
        """Return `run.yaml`; raises InputError when the folder is not a workspace, and when a newer version made it."""
        if not self.path.exists():
            raise InputError(f"{self.path} does not exist; neuroseg run VOLUME makes a workspace")
        if not (self.path / "run.yaml").is_file():
            beside = default_workspace(str(self.path))
            hint = f"; did you mean {beside}?" if beside != self.path and is_workspace(beside) else ""
            raise InputError(f"{self.path} is not a workspace: it has no run.yaml{hint}")
        path = self.path / "run.yaml"
        content = read_mapping(path)
        if content is None or not isinstance(content.get("plan"), dict):
            raise InputError(
                f"{path} is damaged: it describes no run; remove it and give the run's whole command again, with "
                f"-o {self.path} (what is done is kept)"
            )
        require_version(path, content.get("neuroseg"))
        return content

    def write_run(self, content: Mapping[str, Any]) -> None:
        """Write `run.yaml`: what is needed to reproduce the run."""
        publish_text(self.path / "run.yaml", yaml.safe_dump(dict(content), sort_keys=False, width=120))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the workspace (storage/lock.py); raises RunRefusedError when another run holds it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            held = ExitStack()
            killed = held.enter_context(locked(self.path))
        except OSError as error:
            raise InputError(f"cannot write to the workspace {self.path}: {error.strerror}") from error
        with held:
            if killed is not None:
                logger.warning("the last run in %s (%s) was killed; continuing after it", self.path, killed)
                self._remove_half_written()
            if isinstance(self.artifacts, RemotePath):
                claim_artifacts(self.path, self.artifacts)
            else:
                (self.path / STORE).unlink(missing_ok=True)  # of a run that never began
            yield

    def is_worked_on(self) -> bool:
        """Return whether a run holds the workspace."""
        return is_locked(self.path)

    def _remove_half_written(self) -> None:
        """Remove what a head that was killed was writing; what its workers were is removed as their stage goes on."""
        remove_partial_files([self.path, self.path / "ledger", *(self.path / "ledger").glob("*/")])


def reduced(table: str) -> str:
    """Return the name of a reduced table's folder in a workspace."""
    return f"{REDUCED}/{table}"


def workspace_of(address: str) -> Workspace:
    """Return the workspace at a path, or the one whose artifacts lie at an address on a server.

    The latter's own folder, with ledger and logs, is `NAME.neuroseg` in the current one. Raises InputError for an
    address that cannot be one, and when that folder belongs to other artifacts.
    """
    if not is_remote(address):
        return Workspace(Path(address))
    require_writable(address)
    address = address.rstrip("/")
    if not address.endswith(".neuroseg") or address.count("/") < 3:
        raise InputError(f"{address} cannot be a workspace; one on a server is called s3://BUCKET/NAME.neuroseg")
    if odd := set(address) & set("#%"):
        raise InputError(
            f"{address} has {' and '.join(sorted(odd))}, which servers do not all read alike; leave it out"
        )
    folder = default_workspace(address)
    known = stored_at(folder)
    if known != address and is_workspace(folder):
        raise InputError(
            f"{folder.resolve()}, where ledger and logs of {address} belong, is the workspace of "
            f"{known or 'artifacts of its own'}; run it in another folder, or choose another name with -o"
        )
    return Workspace(folder, address)


def named_workspace(address: str) -> Workspace | None:
    """Return the workspace that an argument names, None where it names something else."""
    if is_remote(address):
        named = address.rstrip("/").endswith(".neuroseg") and is_writable(address)
        return workspace_of(address) if named else None
    return Workspace(Path(address)) if is_workspace(Path(address)) else None
