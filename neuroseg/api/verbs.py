"""`predict`, `segment` and `run`, with the options of the commands of the same names.

An option that is None takes the value of the workspace's last run, or else its default. Errors are those of
neuroseg.errors, with the text that the command line prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neuroseg.api.result import Run
from neuroseg.errors import InputError

if TYPE_CHECKING:
    from neuroseg.execution.cluster.site import Cluster

Blocks = int | str | Sequence[int]
Size = tuple[float, float, float]


def predict(
    volume: str | Path,
    *,
    output: str | Path | None = None,
    blocks: Blocks | None = None,
    model: str | Path | None = None,
    device: str | None = None,
    blend: str | None = None,
    tta: int | str | None = None,
    level: int | None = None,
    axes: str | None = None,
    channel: int | None = None,
    time: int | None = None,
    range: tuple[float, float] | None = None,
    invert: bool = False,
    normalise: str | None = None,
    force: bool = False,
    voxel_size: Size | None = None,
    roi: str | None = None,
    mask: str | Path | None = None,
    workers: int | None = None,
    executor: str | None = None,
    cluster: str | None = None,
    dask_address: str | None = None,
    block_timeout: float | None = None,
    restart: str | None = None,
) -> Run:
    """Predict the affinities of a raw volume; return the run, not yet segmented.

    `blocks` is the block size in voxels, N or (z, y, x). `voxel_size` is in nm, (z, y, x), and overrides the file's.
    `roi` is z0:z1,y0:y1,x0:x1 in voxels. `cluster` is a cluster configuration file (YAML), as for --cluster.

    Examples:
        >>> neuroseg.predict("volume.zarr", blocks=256).affinities.shape
        (3, 160, 250, 250)
    """
    from neuroseg.runs import pipeline
    from neuroseg.runs.options import options_from

    options = options_from(
        volume=_text(volume), output=_text(output), blocks=blocks, model=_text(model), device=device, blend=blend,
        tta=tta, level=level, axes=axes, channel=channel, time=time, range=range, invert=invert, normalise=normalise,
        force=force, voxel_size=voxel_size, roi=roi, mask=_text(mask), workers=workers, executor=executor,
        block_timeout=block_timeout,
    )  # fmt: skip
    workspace, _ = pipeline.predict(options, restart=restart, cluster=_cluster(cluster, dask_address))
    return Run(workspace.path)


def segment(
    volume: str | Path | Run | None = None,
    *,
    output: str | Path | None = None,
    affinities: str | Path | None = None,
    boundaries: str | Path | None = None,
    offsets: str | Sequence[Sequence[int]] | None = None,
    axes: str | None = None,
    channel: int | None = None,
    time: int | None = None,
    blocks: Blocks | None = None,
    threshold: float | None = None,
    scoring: str | None = None,
    agglomeration: str | None = None,
    fragments: str | None = None,
    per_section: str | None = None,
    mask_boundary: float | None = None,
    long_range: str | None = None,
    min_size: int | str | None = None,
    small: str | None = None,
    keep: str | None = None,
    force: bool = False,
    voxel_size: Size | None = None,
    roi: str | None = None,
    mask: str | Path | None = None,
    workers: int | None = None,
    executor: str | None = None,
    cluster: str | None = None,
    dask_address: str | None = None,
    block_timeout: float | None = None,
    memory: str | None = None,
    restart: str | None = None,
) -> Run:
    """Segment a predicted volume, or `affinities` or `boundaries` of another network; return the run.

    `volume` is the raw volume, its workspace or its run. `affinities` and `boundaries` require `output`. Edges with a
    score below `threshold` (0 to 1) merge. `min_size` is in voxels, or a volume such as "0.01um3". The other options
    are those of `predict`.

    Examples:
        >>> neuroseg.segment("volume.neuroseg", threshold=0.6).segmentation[40]
        >>> neuroseg.segment(affinities="theirs.zarr", offsets=[[-1, 0, 0], [0, -1, 0], [0, 0, -1]], output="t")
    """
    from neuroseg.runs import pipeline
    from neuroseg.runs.options import options_from

    options = options_from(
        volume=_text(volume), output=_text(output), affinities=_text(affinities), boundaries=_text(boundaries),
        offsets=offsets, axes=axes, channel=channel, time=time, blocks=blocks, threshold=threshold, scoring=scoring,
        agglomeration=agglomeration, fragments=fragments, per_section=per_section, mask_boundary=mask_boundary,
        long_range=long_range, min_size=min_size, small=small, keep=keep, force=force, voxel_size=voxel_size, roi=roi,
        mask=_text(mask), workers=workers, executor=executor, block_timeout=block_timeout, memory=memory,
    )  # fmt: skip
    workspace, _ = pipeline.segment(options, restart=restart, cluster=_cluster(cluster, dask_address))
    return Run(workspace.path)


def run(
    volume: str | Path,
    *,
    output: str | Path | None = None,
    blocks: Blocks | None = None,
    model: str | Path | None = None,
    device: str | None = None,
    blend: str | None = None,
    tta: int | str | None = None,
    level: int | None = None,
    axes: str | None = None,
    channel: int | None = None,
    time: int | None = None,
    range: tuple[float, float] | None = None,
    invert: bool = False,
    normalise: str | None = None,
    force: bool = False,
    threshold: float | None = None,
    scoring: str | None = None,
    agglomeration: str | None = None,
    fragments: str | None = None,
    per_section: str | None = None,
    mask_boundary: float | None = None,
    long_range: str | None = None,
    min_size: int | str | None = None,
    small: str | None = None,
    keep: str | None = None,
    voxel_size: Size | None = None,
    roi: str | None = None,
    mask: str | Path | None = None,
    workers: int | None = None,
    executor: str | None = None,
    cluster: str | None = None,
    dask_address: str | None = None,
    block_timeout: float | None = None,
    memory: str | None = None,
    restart: str | None = None,
) -> Run:
    """Predict and segment a raw volume; return the run. The options are those of `predict` and `segment`.

    To resume an interrupted run, call it again with the same options.

    Examples:
        >>> run = neuroseg.run("volume.zarr", blocks=256)
        >>> run.segmentation[40]                      # reads the labels of section 40
        >>> run.evaluate("truth.h5:labels")["voi_sum"]
    """
    from neuroseg.runs import pipeline
    from neuroseg.runs.options import options_from

    options = options_from(
        volume=_text(volume), output=_text(output), blocks=blocks, model=_text(model), device=device, blend=blend,
        tta=tta, level=level, axes=axes, channel=channel, time=time, range=range, invert=invert, normalise=normalise,
        force=force, threshold=threshold, scoring=scoring, agglomeration=agglomeration, fragments=fragments,
        per_section=per_section, mask_boundary=mask_boundary, long_range=long_range, min_size=min_size, small=small,
        keep=keep, voxel_size=voxel_size, roi=roi, mask=_text(mask), workers=workers, executor=executor,
        block_timeout=block_timeout, memory=memory,
    )  # fmt: skip
    workspace, _ = pipeline.run(options, restart=restart, cluster=_cluster(cluster, dask_address))
    return Run(workspace.path)


def _text(path: str | Path | Run | None) -> str | None:
    """Return a path as text; raises InputError for anything else, such as an array."""
    if isinstance(path, Run):
        return str(path.path)
    if path is None or isinstance(path, str | Path):
        return None if path is None else str(path)
    raise InputError(
        f"a {type(path).__name__} is not a path",
        hint="pass the path of a volume; write an array to disk with zarr.create_array first",
    )


def _cluster(site: str | None, dask_address: str | None) -> Cluster:
    from neuroseg.execution.cluster.site import Cluster, site_named

    return Cluster(site_named(site) if site else None, dask_address)
