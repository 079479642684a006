"""A run as a Python object: its arrays, segments and scores."""

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
    """A run with its workspace at `path`, as returned by `neuroseg.run`, `predict`, `segment` and `open_run`."""

    path: Path

    @property
    def segmentation(self) -> LazyArray:
        """The labels `(z, y, x)` uint64 at full resolution, 0 = background. Raises InputError before segmentation.

        Examples:
            >>> run.segmentation.voxel_size_nm
            (10.0, 10.0, 10.0)
            >>> run.segmentation[40].max()          # reads the labels of section 40
        """
        from neuroseg.volumes.volume import open_volume

        if not self._workspace.segmentation.exists():
            raise InputError(f"{self.path} has no segmentation yet", hint="call segment()")
        volume = open_volume(str(self._workspace.segmentation))
        return LazyArray(volume.array, volume.voxel_size_nm or (1.0, 1.0, 1.0), volume.offset_nm)

    @property
    def affinities(self) -> LazyArray:
        """The affinities `(channels, z, y, x)` uint8, 255 = certainly the same neuron.

        Raises InputError if the workspace contains none: they were deleted, or the run used those of another network.
        """
        from neuroseg.runs.plan import read_plan
        from neuroseg.storage.arrays import open_array

        if not self._workspace.affinities.exists():
            raise InputError(f"{self.path} contains no affinities: they are stored elsewhere or were deleted")
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
        """Segment again with another threshold or any option of `neuroseg.segment`; return this run.

        Another threshold is fast: it reuses the merge tree and predicts nothing.

        Examples:
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

        They include `voi_split`, `voi_merge`, `voi_sum` (bits) and `arand`. With `sweep`, they also include the scores
        of each threshold. Raises InputError if segmentation and truth cannot be compared.

        Examples:
            >>> run.evaluate("truth.h5:labels")["voi_sum"]
        """
        from neuroseg.checks.score import Request, score

        return score(Request(str(self.path), str(truth), roi, sweep))

    def report(self, *, truth: str | Path | None = None, output: str | Path | None = None) -> Path:
        """Write the report of the run as one HTML file, and return its path. See `neuroseg report`.

        `output` is report.html in the workspace by default. With `truth`, the report contains scores. Raises InputError
        if the file cannot be written, or if segmentation and truth cannot be compared.

        Examples:
            >>> run.report(truth="truth.zarr", output="report.html")
            PosixPath('report.html')
        """
        from neuroseg.report.write import write_report

        address = None if truth is None else str(truth)
        return write_report(str(self.path), truth=address, output=None if output is None else Path(output))

    def status(self) -> dict[str, Any]:
        """Return the progress of the run, as `neuroseg status --json` prints it: `state`, `stages` and `workers`."""
        from neuroseg.checks.run_state import run_state

        state, stages, workers = run_state(str(self.path))
        return {"workspace": str(self.path), "state": state, "stages": stages, "workers": workers}

    def segments(self) -> Table:
        """Return a table with one row per segment: id, voxels, fragments, centre and bounding box in voxels.

        The table is a dictionary of numpy arrays, one per column. `pandas.DataFrame` accepts it. All columns are listed
        in segmentation.segments. Raises InputError before segmentation, or if the table of fragments was deleted.
        """
        from neuroseg.segmentation.segments import segments_table
        from neuroseg.storage.merges import read_nodes
        from neuroseg.storage.parts import map_lookup

        workspace = self._workspace
        if not workspace.lookup.exists() or not workspace.all_nodes.exists():
            raise InputError(f"{self.path} has no table of segments: it is not segmented, or the table was deleted")
        return segments_table(read_nodes(workspace), map_lookup(workspace.lookup))

    @property
    def _workspace(self) -> Workspace:
        from neuroseg.storage.workspace import workspace_of

        return workspace_of(str(self.path))


def open_run(path: str | Path) -> Run:
    """Return the run with its workspace at `path`; raises InputError if there is no workspace.

    Examples:
        >>> neuroseg.open_run("volume.neuroseg").status()["state"]
        'done'
    """
    from neuroseg.storage.workspace import workspace_of

    workspace = workspace_of(str(path))
    workspace.read_run()
    return Run(workspace.path)
