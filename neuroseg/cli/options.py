"""The options that several commands share, with their help and the heading they are listed under."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from neuroseg.cli.command import INPUT, OUTPUT, PREDICTION, SEGMENTATION, WORKERS

Triple = tuple[float, float, float]


def _input(*names: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=INPUT, **more)


def _prediction(*names: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=PREDICTION, **more)


def _segmentation(*names: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=SEGMENTATION, **more)


def _workers(*names: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=WORKERS, **more)


# Input
RawVolume = Annotated[
    str, typer.Argument(metavar="VOLUME", help="Raw volume: a zarr, file.h5:dataset or s3:// address.")
]
NewInput = Annotated[
    str | None, _input("--input", metavar="PATH", help="New path of the input, if it moved after the last run.")
]
Affinities = Annotated[
    str | None, _input(metavar="ARRAY", help="Affinities of another network, axes c,z,y,x, instead of a raw volume.")
]
Boundaries = Annotated[
    str | None, _input(metavar="ARRAY", help="Boundary map, axes z,y,x, 1 = boundary, instead of a raw volume.")
]
Offsets = Annotated[
    str | None,
    _input(
        metavar="OFFSETS",
        help="Voxel offset z,y,x of each channel of --affinities. Quote it: --offsets='-1,0,0;0,-1,0;0,0,-1'.  "
        "[default: the array's metadata]",
    ),
]
Axes = Annotated[
    str | None,
    _input(
        metavar="LETTERS",
        help="Axes of the input, slowest first, one letter of t, c, z, y, x each. Example: zcyx.  "
        "[default: the input's metadata]",
    ),
]
Channel = Annotated[int | None, _input(metavar="N", help="Channel to read, counted from 0.")]
Time = Annotated[int | None, _input(metavar="N", help="Time point to read, counted from 0.")]
Level = Annotated[
    int | None,
    _input(
        metavar="N",
        help="Pyramid level to read, 0 = full resolution.  [default: the level nearest to the model's voxel size]",
    ),
]
VoxelSize = Annotated[
    Triple | None,
    _input(metavar="Z Y X", help="Voxel size in nm.  [default: the input's metadata]"),
]
Roi = Annotated[
    str | None,
    _input(
        "--roi",
        metavar="Z0:Z1,Y0:Y1,X0:X1",
        help="Process only this region, in voxels. Omit a bound to reach the edge: 0:64,:,:.  [default: whole volume]",
    ),
]
StoredRoi = Annotated[
    str | None,
    _input(
        "--roi",
        metavar="Z0:Z1,Y0:Y1,X0:X1",
        help="Segment only this region, in voxels. Omit a bound to reach the edge: 0:64,:,:.  "
        "[default: the workspace's region]",
    ),
]
Range = Annotated[
    tuple[float, float] | None,
    _input(
        metavar="LOW HIGH",
        help="Raw values to map to 0 and 255. LOW above HIGH inverts the contrast. Required for float volumes.  "
        "[default: the full range of uint8 or uint16]",
    ),
]
Invert = Annotated[bool, _input("--invert", help="Invert the contrast. Use it if membranes are bright.")]
Normalise = Annotated[
    str | None,
    _input(
        metavar="METHOD",
        help="sections: equalise brightness and contrast of sections before prediction. none: keep them.  "
        "[default: none]",
    ),
]
Mask = Annotated[
    str | None,
    _input(
        metavar="ARRAY",
        help="Process only voxels at which this array is not 0. The array may have another resolution.  "
        "[default: none]",
    ),
]

# Prediction
Model = Annotated[
    str | None,
    _prediction(
        metavar="NAME|FOLDER",
        help="Name of a bundled model (list them with neuroseg models), or a bundle folder.  [default: fib25_light]",
    ),
]
Tta = Annotated[
    str | None,
    _prediction(
        metavar="N[:minimum]",
        help="Test-time augmentation: predict in 4, 8 or 16 orientations and keep the mean, or the minimum. 4 flips y "
        "and x, 8 also exchange them, 16 also flip z. Takes N times as long. 1: none.  [default: 1]",
    ),
]
Blend = Annotated[
    str | None,
    _prediction(
        metavar="METHOD",
        help="Blending of overlapping windows. centre: keep the middle of each window. gaussian: weighted mean.  "
        "[default: the model's]",
    ),
]
Device = Annotated[
    str | None,
    _prediction(
        metavar="DEVICE",
        help="Device for prediction: auto, cpu, cuda or cuda:N. auto: a GPU if this machine has one; on a cluster, if "
        "the cluster file requests one for the stage affinities.  [default: auto]",
    ),
]

# Segmentation
Threshold = Annotated[
    float | None,
    _segmentation(
        metavar="T",
        help="Merge edges with a score below T (0 to 1). A higher T merges more.  [default: the model's, else 0.5]",
    ),
]
Scoring = Annotated[
    str | None,
    _segmentation(
        "--scoring",
        metavar="SCORING",
        help="Score of an edge: mean, quantile:Q or quantile:Q:all. A new scoring needs a new --threshold.  "
        "[default: the model's, else mean]",
    ),
]
MinSize = Annotated[
    str | None,
    _segmentation(metavar="SIZE", help="Smallest segment to keep, in voxels (500) or volume (0.01um3).  [default: 0]"),
]
Small = Annotated[
    str | None,
    _segmentation(
        metavar="ACTION",
        help="Action for segments below --min-size. merge: join the best neighbour. drop: set to 0.  [default: merge]",
    ),
]
MaskBoundary = Annotated[
    float | None,
    _segmentation(metavar="A", help="Leave voxels with a mean affinity below A (0 to 1) unsegmented.  [default: 0]"),
]
PerSection = Annotated[
    str | None,
    _segmentation(
        metavar="auto|on|off",
        help="Compute fragments within each section. auto: on if voxels are at least 3 times deeper than wide.  "
        "[default: auto]",
    ),
]
LongRange = Annotated[
    str | None,
    _segmentation(metavar="on|off", help="Also use long-range affinities to score edges.  [default: off]"),
]
Fragments = Annotated[
    str | None,
    _segmentation(
        metavar="METHOD",
        help="Fragment method. For comparison: seeded-watershed, distance-watershed, mutex-watershed.  "
        "[default: distance-basins]",
    ),
]
Agglomeration = Annotated[
    str | None,
    _segmentation(
        metavar="METHOD",
        help="Agglomeration method. tree stores every threshold. For comparison: multicut, gaec, waterz.  "
        "[default: tree]",
    ),
]

# Output
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="WORKSPACE",
        help="Folder for all results, or s3://BUCKET/NAME.neuroseg.  [default: NAME.neuroseg next to the volume]",
        rich_help_panel=OUTPUT,
    ),
]
Keep = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="Files to keep. all: all results. fragments: enough to change the threshold. segmentation: only the "
        "result. stream: delete affinities during the run, for small disks.  [default: all]",
        rich_help_panel=OUTPUT,
    ),
]

Report = Annotated[
    bool,
    typer.Option("--report/--no-report", help="Write report.html in the workspace at the end.", rich_help_panel=OUTPUT),
]

# Workers and clusters
Blocks = Annotated[
    str | None,
    _workers(
        metavar="N|Z,Y,X",
        help="Block size in voxels. Use smaller blocks if memory is short.  [default: 256]",
    ),
]
Workers = Annotated[
    int | None,
    _workers(
        metavar="N",
        help="Number of workers.  [default: one per core, one per GPU for prediction; on a cluster, see --cluster]",
    ),
]
ExecutorName = Annotated[
    str | None,
    _workers(
        "--executor",
        metavar="NAME",
        help="Where blocks run. local: workers on this machine. serial: one block at a time. slurm, dask: workers on "
        "a cluster.  [default: local]",
    ),
]
ClusterName = Annotated[
    str | None,
    _workers("--cluster", metavar="FILE", help="Cluster configuration file (YAML).  [default: $NEUROSEG_CLUSTER]"),
]
DaskAddress = Annotated[
    str | None,
    _workers(
        metavar="URL", help="Address of a Dask scheduler, tcp://HOST:PORT.  [default: start Dask on this machine]"
    ),
]
BlockTimeout = Annotated[
    float | None,
    _workers(
        metavar="SECONDS",
        help="Time limit per block. When it expires, the worker is killed and the block is retried.  "
        "[default: 21600 (6 hours)]",
    ),
]

Memory = Annotated[
    str | None,
    _workers(
        metavar="SIZE",
        help="Memory for all processes on this machine (on a cluster, of a job), for example 16G. Tables of the "
        "agglomeration that need more are in temporary files in the workspace.  [default: the free memory]",
    ),
]

# General
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="YAML file with these options. A workspace's run.yaml works. Options on the command line override it.",
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Run even if disk space is short, voxel sizes do not match the model or values look wrong."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def restart(stages: str) -> Any:
    """Return the option --restart for a command with these stages, written as in a sentence."""
    return typer.Option(metavar="STAGE", help=f"Recompute a stage and all stages after it: {stages}.")
