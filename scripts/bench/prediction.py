"""`neuroseg predict` from zarr to zarr, compared with only the network on the same tiles in memory."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import time

import numpy as np
import torch
import zarr
from cube import Cube, command
from report import Row, timed

from neuroseg.affinities.device import choose_device
from neuroseg.affinities.predictors import open_predictor
from neuroseg.affinities.tiles import read_reflected, tiles_covering
from neuroseg.geometry import slices, whole
from neuroseg.networks.bundle import bundled_names, open_bundle

_MOST_TILES = 16


def measure(data: Cube, repeat: int) -> list[Row]:
    """Return both rates and their ratio. The time of the stage includes the start of its worker."""
    bare, tile_voxels = _bare_seconds_per_tile(data, repeat)
    workspace = data.folder / "predict.neuroseg"
    seconds, tiles = [], len(tiles_covering(whole((data.edge,) * 3), tile_voxels))
    for _ in range(repeat):
        shutil.rmtree(workspace, ignore_errors=True)
        line = command("predict", str(data.raw), "-o", str(workspace), "--blocks", "128", "--workers", "1", "--json")
        done = subprocess.run(line, check=True, capture_output=True, text=True)
        stage = json.loads(done.stdout)["stages"][0]
        seconds.append(stage["seconds"])
    share = bare * tiles / statistics.median(seconds)
    return [
        timed("prediction", "bare network, its tiles", [bare * tiles], data.voxels),
        timed("prediction", "predict, zarr to zarr", seconds, data.voxels),
        Row("prediction", "predict / bare network", {"ratio": round(share, 3)}),
    ]


def _bare_seconds_per_tile(data: Cube, repeat: int) -> tuple[float, tuple[int, int, int]]:
    """Return the median time per tile in seconds, and the shape of a tile."""
    torch.set_num_threads(1)
    predictor = open_predictor(open_bundle(bundled_names()[0]), choose_device("cpu"))
    settings = predictor.settings
    raw = np.asarray(zarr.open_array(str(data.raw), mode="r")[:])
    tiles = tiles_covering(whole(raw.shape), settings.output)[:_MOST_TILES]
    cut = [read_reflected(lambda roi: raw[slices(roi)], settings.window_of(tile), raw.shape) for tile in tiles]
    windows = torch.from_numpy(np.stack(cut)[:, None])
    predictor.outputs(windows[: settings.batch])
    seconds = []
    for _ in range(repeat):
        began = time.perf_counter()
        for at in range(0, len(windows), settings.batch):
            predictor.outputs(windows[at : at + settings.batch])
        seconds.append((time.perf_counter() - began) / len(windows))
    return statistics.median(seconds), settings.output
