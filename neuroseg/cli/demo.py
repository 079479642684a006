"""The command `demo`: segment, score and draw a synthetic volume."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from neuroseg.api.demo import LEAST_VOXELS, MARK, demo_volume
from neuroseg.cli import progress
from neuroseg.cli.options import Json
from neuroseg.cli.summary import print_json, print_summary, run_summary
from neuroseg.geometry import Triple, parse_triple

_BLOCKS = "64,128,128"


def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder for the volume and the results.")] = Path(
        "demo"
    ),
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Number of workers.  [default: one per core]")
    ] = None,
    shape: Annotated[str, typer.Option(metavar="N|Z,Y,X", help="Size of the volume in voxels.")] = "128,128,192",
    json: Json = False,
) -> None:
    """Segment a synthetic volume, score the result and draw it.

    Use it to check your installation and to see the output of a run. It uses the bundled model and takes less than
    three minutes on two cores.

    \b
    Example:
      neuroseg demo
    """
    started = time.monotonic()
    voxels = parse_triple(shape, "--shape", least=LEAST_VOXELS)
    if (folder / MARK).exists():
        print(f"replacing the earlier demo in {folder}", file=sys.stderr)
    print(f"1. write a synthetic volume of {' x '.join(map(str, voxels))} voxels and its true labels", file=sys.stderr)
    _make_volume(folder, voxels)
    print("2. predict affinities and segment them", file=sys.stderr)
    workspace, content = _segment(folder, workers)
    print("3. score the segmentation, draw a figure and write a report", file=sys.stderr)
    from neuroseg.checks.score import Request, score

    scores = score(Request(str(workspace.path), str(folder / "truth.zarr")), progress.voxels_done)
    figure = folder / "segmentation.png"
    _draw(figure, folder, workspace)
    from neuroseg.report.write import write_report

    report = write_report(str(workspace.path), truth=str(folder / "truth.zarr"))
    content |= {
        "scores": scores,
        "figure": str(figure),
        "report": str(report),
        "seconds": round(time.monotonic() - started, 1),
    }
    if json:
        print_json(content)
        return
    print_summary(content, [])
    print(
        f"\nVOI split {scores['voi_split']:.2f} + merge {scores['voi_merge']:.2f} = {scores['voi_sum']:.2f} bits, "
        f"ARAND {scores['arand']:.3f}, {scores['segments']} segments, {scores['truth_objects']} true neurites, "
        f"{content['seconds']:.0f} s\nfigure: {figure}\nreport: {report}\n\ntry next:\n{_activation()}"
        f"  neuroseg view {workspace.path} --truth {folder / 'truth.zarr'}   (needs the extra: neuroseg[viewing])\n"
        f"  neuroseg info {folder / 'volume.zarr'}\n"
        f"  neuroseg segment {workspace.path} --threshold {content['threshold'] - 0.1:g}\n"
        f"  neuroseg evaluate {workspace.path} --truth {folder / 'truth.zarr'} --sweep\n"
        f"\nyour own data:\n"
        f"  neuroseg import your_sections/ -o yours.zarr --voxel-size 10 10 10\n"
        f"  neuroseg run yours.zarr"
    )


def _activation() -> str:
    """Return the line that activates the environment; empty if `neuroseg` is already on the PATH."""
    if shutil.which("neuroseg"):
        return ""
    return f"  source {Path(sys.executable).parent / 'activate'}\n"


def _make_volume(folder: Path, shape: Triple) -> None:
    from neuroseg.storage.arrays import use_threads

    use_threads(1)
    demo_volume(folder, shape=shape)


def _segment(folder: Path, workers: int | None) -> tuple[Any, dict[str, Any]]:
    from neuroseg.runs import pipeline
    from neuroseg.runs.options import options_from

    options = options_from(volume=str(folder / "volume.zarr"), blocks=_BLOCKS, workers=workers)
    workspace, summaries = pipeline.run(options, begin=progress.begin)
    return workspace, run_summary(workspace, summaries)


def _draw(path: Path, folder: Path, workspace: Any) -> None:
    import numpy as np

    from neuroseg.storage.arrays import open_array
    from neuroseg.views.figure import segmentation_figure
    from neuroseg.volumes.volume import open_volume, require_voxel_size

    raw = open_volume(str(folder / "volume.zarr"))
    segmentation_figure(
        path,
        raw=raw.read(raw.roi),
        affinities=np.asarray(open_array(workspace.affinities)[:]),
        labels={
            "fragments": np.asarray(open_array(workspace.fragments)[:]),
            "segmentation": np.asarray(open_array(workspace.segmentation / "0")[:]),
            "truth": np.asarray(open_array(folder / "truth.zarr" / "0")[:]),
        },
        voxel_size_nm=require_voxel_size(raw),
        title="neuroseg demo: synthetic neuropil, bundled model",
    )
