"""A run as a Python object: its arrays, its segments, its scores, and another threshold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroseg.api.lazy_array import LazyArray
from neuroseg.errors import InputError

if TYPE_CHECKING:
    from neuroseg.storage.workspace import Workspace
    from neuroseg.tables import Table


@dataclass(frozen=True)
class Run:
    """A run and its workspace at `path`: returned by `neuroseg.run`, `predict`, `segment` and `open_run`."""

    path: Path

    @property
    def segmentation(self) -> LazyArray:
        """The labels `(z, y, x)` uint64 at full resolution, 0 where nothing is; raises InputError before there are any.

        >>> run.segmentation.voxel_size_nm
        (10.0, 10.0, 10.0)
        >>> run.segmentation[40].max()          # the labels of section 40 are read
        """
        from neuroseg.volumes.volume import open_volume

        if not self._workspace.segmentation.exists():
            raise InputError(f"{self.path} has no segmentation yet; call segment()")
        volume = open_volume(str(self._workspace.segmentation))
        return LazyArray(volume.array, volume.voxel_size_nm or (1.0, 1.0, 1.0), volume.offset_nm)

    @property
    def affinities(self) -> LazyArray:
        """The affinities `(channels, z, y, x)` uint8, 255 = certainly one neuron.

        Raises InputError where none are kept.
        """
        from neuroseg.runs.plan import read_plan
        from neuroseg.storage.arrays import open_array

        if not self._workspace.affinities.exists():
            raise InputError(f"{self.path} has no affinities of its own: they come from elsewhere, or were removed")
        plan = read_plan(self._workspace)
        return LazyArray(open_array(self._workspace.affinities), plan.voxel_size_nm, plan.offset_nm)

    def segment(
        self,
        *,
        threshold: float | None = None,
        restart: str | None = None,
        cluster: str | None = None,
        dask_address: str | None = None,
        **options: Any,
    ) -> Run:
        """Segment again, with another threshold or any option of `neuroseg.segment`; returns this run.

        Another threshold alone takes seconds: the merge tree holds them all.

        >>> run.segment(threshold=0.6).segments()["segment"].size
        """
        from neuroseg.execution.cluster.site import Cluster, site_named
        from neuroseg.runs import pipeline
        from neuroseg.runs.options import options_from

        where = Cluster(site_named(cluster) if cluster else None, dask_address)
        asked = options_from(volume=str(self.path), threshold=threshold, **options)
        pipeline.segment(asked, restart=restart, cluster=where)
        return self

    def evaluate(self, truth: str | Path, *, roi: str | None = None, sweep: bool = False) -> dict[str, Any]:
        """Return the scores against ground-truth labels, as `neuroseg evaluate --json` prints them.

        Among them `voi_split`, `voi_merge`, `voi_sum` (bits) and `arand`; with `sweep` those of every threshold.
        Raises InputError where the two cannot be compared.

        >>> run.evaluate("truth.h5:labels")["voi_sum"]
        """
        from neuroseg.checks.score import Request, score

        return score(Request(str(self.path), str(truth), roi, sweep))

    def status(self) -> dict[str, Any]:
        """Return how far the run is, as `neuroseg status --json` prints it: `state`, `stages` and `workers`."""
        from neuroseg.checks.run_state import run_state

        state, stages, workers = run_state(str(self.path))
        return {"workspace": str(self.path), "state": state, "stages": stages, "workers": workers}

    def segments(self) -> Table:
        """Return one row per segment: id, voxels, fragments, centre and bounding box in voxels.

        A dictionary of columns (numpy arrays), which `pandas.DataFrame` takes; see segmentation.segments for them all.
        Raises InputError before there is a segmentation, and where the fragments' sizes were removed.
        """
        from neuroseg.segmentation.segments import segments_table
        from neuroseg.storage.parts import map_lookup, read_table
        from neuroseg.tables import NODES

        workspace = self._workspace
        if not workspace.lookup.exists() or not workspace.all_nodes.exists():
            raise InputError(f"{self.path} has no table of segments: it was not segmented, or keeps only the labels")
        return segments_table(read_table(workspace.all_nodes, NODES), map_lookup(workspace.lookup))

    @property
    def _workspace(self) -> Workspace:
        from neuroseg.storage.workspace import workspace_of

        return workspace_of(str(self.path))


def open_run(path: str | Path) -> Run:
    """Return the run whose workspace lies at `path`; raises InputError where none does.

    >>> neuroseg.open_run("volume.neuroseg").status()["state"]
    'done'
    """
    from neuroseg.storage.workspace import workspace_of

    workspace = workspace_of(str(path))
    workspace.read_run()
    return Run(workspace.path)
