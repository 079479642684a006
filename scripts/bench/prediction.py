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

from neuroseg.affinities.device import choose_device, precision_of
from neuroseg.affinities.inference import Predictor
from neuroseg.affinities.predictors import open_predictor
from neuroseg.affinities.tiles import read_reflected, tiles_covering
from neuroseg.geometry import slices, whole
from neuroseg.networks.bundle import bundled_names, open_bundle

_MOST_TILES = 16


def measure(data: Cube, repeat: int) -> list[Row]:
    """Return the rates of the plain network, of the bare one and of the stage, and their ratios.

    The plain network is the trained one. The bare network has folded normalisation, as in a prediction. The time of the
    stage includes the start of its worker.
    """
    predictor = open_predictor(open_bundle(bundled_names()[0]), choose_device("cpu"))
    plain, bare = _seconds_per_tile(data, predictor, repeat)
    workspace = data.folder / "predict.neuroseg"
    seconds, tiles = [], len(tiles_covering(whole((data.edge,) * 3), predictor.settings.output))
    for _ in range(repeat):
        shutil.rmtree(workspace, ignore_errors=True)
        line = command("predict", str(data.raw), "-o", str(workspace), "--blocks", "128", "--workers", "1", "--json")
        done = subprocess.run(line, check=True, capture_output=True, text=True)
        stage = json.loads(done.stdout)["stages"][0]
        seconds.append(stage["seconds"])
    share = statistics.median(bare) * tiles / statistics.median(seconds)
    return [
        timed("prediction", "plain network, its tiles", [each * tiles for each in plain], data.voxels),
        timed("prediction", "bare network, its tiles", [each * tiles for each in bare], data.voxels),
        Row(
            "prediction",
            "bare / plain network",
            {"ratio": round(statistics.median(plain) / statistics.median(bare), 3)},
        ),
        timed("prediction", "predict, zarr to zarr", seconds, data.voxels),
        Row("prediction", "predict / bare network", {"ratio": round(share, 3)}),
    ]


def _seconds_per_tile(data: Cube, predictor: Predictor, repeat: int) -> tuple[list[float], list[float]]:
    """Return the seconds per tile of the plain network and of the bare one, which take turns."""
    torch.set_num_threads(1)
    settings = predictor.settings
    raw = np.asarray(zarr.open_array(str(data.raw), mode="r")[:])
    tiles = tiles_covering(whole(raw.shape), settings.output)[:_MOST_TILES]
    cut = [read_reflected(lambda roi: raw[slices(roi)], settings.window_of(tile), raw.shape) for tile in tiles]
    windows = torch.from_numpy(np.stack(cut)[:, None])
    network = open_bundle(bundled_names()[0]).network().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    precision = precision_of(torch.device("cpu"))

    @torch.inference_mode()
    def plain(batch: torch.Tensor) -> None:
        scaled = (batch.float() / settings.raw_scale).contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            network(scaled)

    seconds: tuple[list[float], list[float]] = ([], [])
    for compute in (plain, predictor.outputs):
        compute(windows[: settings.batch])
    for _ in range(repeat):
        for compute, found in zip((plain, predictor.outputs), seconds, strict=True):
            began = time.perf_counter()
            for at in range(0, len(windows), settings.batch):
                compute(windows[at : at + settings.batch])
            found.append((time.perf_counter() - began) / len(windows))
    return seconds
