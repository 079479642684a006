"""Measure the threshold slider of `neuroseg view` in a browser.

    python scripts/bench_viewer.py FOLDER [--edge 512] [--steps 12] [--json F]

Segments a random boundary map of EDGE^3 voxels (512: about a million fragments), opens it in chromium with software
rendering (1280 x 800 pixels, three planes), and moves the slider. Prints the rows of the merge tree, and the seconds
from each movement until all views are drawn. Needs: pip install 'neuroseg[development]', apt-get install chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import zarr
from playwright.sync_api import sync_playwright
from scipy import ndimage

FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
SMOOTHING_VOXELS = 1.0
SLAB = 64


def main() -> None:
    """Measure and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the volume and the workspace")
    parser.add_argument("--edge", type=int, default=512)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    given = parser.parse_args()
    workspace = segmented(given.folder.resolve(), given.edge)
    tree = workspace / "merges" / "tree.parquet"
    seconds = latencies(workspace, given.steps)
    result = {
        "edge_voxels": given.edge,
        "tree_rows": pyarrow.parquet.read_metadata(tree).num_rows,
        "seconds_a_step": [round(each, 3) for each in seconds],
        "median": round(statistics.median(seconds), 3),
        "most": round(max(seconds), 3),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


def segmented(folder: Path, edge: int) -> Path:
    """Return the workspace of a random boundary map. An existing one is used again."""
    workspace, volume = folder / f"random-{edge}.neuroseg", folder / f"random-{edge}.zarr"
    if not (workspace / "segmentation.zarr").exists():
        shutil.rmtree(volume, ignore_errors=True)
        size = {"voxel_size": [10, 10, 10]}
        array = zarr.create_array(str(volume), shape=(edge,) * 3, dtype="u1", chunks=(SLAB,) * 3, attributes=size)
        rng = np.random.default_rng(0)
        for begin in range(0, edge, SLAB):
            noise = ndimage.gaussian_filter(rng.random((SLAB, edge, edge), np.float32), SMOOTHING_VOXELS)
            array[begin : begin + SLAB] = np.clip(128 + 1500 * (noise - 0.5), 0, 255).astype(np.uint8)
        command = [
            "segment",
            "--boundaries",
            str(volume),
            "-o",
            str(workspace),
            "--blocks",
            "128",
            "--threshold",
            "0.3",
        ]
        subprocess.run([sys.executable, "-m", "neuroseg", *command], check=True, stdout=subprocess.DEVNULL)
    return workspace


def latencies(workspace: Path, steps: int) -> list[float]:
    """Return the seconds from each movement of the slider until everything is drawn."""
    command = [sys.executable, "-m", "neuroseg", "view", str(workspace), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as viewing, sync_playwright() as started:
        assert viewing.stdout is not None
        url = viewing.stdout.readline().strip()
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        page.wait_for_function("window.viewer && window.viewer.isReady()", timeout=120_000)
        page.evaluate("viewer.navigationState.zoomFactor.value = 1")
        page.wait_for_timeout(5000)
        found = [step(page, 0.2 + 0.5 * number / steps) for number in range(steps + 1)]
        browser.close()
        viewing.terminate()
    return found[1:]  # the first step may still read fragments


def step(page: object, threshold: float) -> float:
    """Move the slider. Return the seconds until the new segmentation is drawn."""
    script = """async (threshold) => {
        const slider = document.getElementById("neuroseg-threshold"), begin = performance.now();
        slider.value = threshold;
        slider.dispatchEvent(new Event("input"));
        const layer = viewer.layerManager.getLayerByName("segmentation").layer;
        const isDone = () => layer.dataSources.length === 1
            && layer.dataSources[0].spec.url.includes(`/t${Number(slider.value)}-`) && viewer.isReady();
        while (!isDone()) await new Promise((resolve) => setTimeout(resolve, 5));
        return performance.now() - begin;
    }"""
    seconds: float = page.evaluate(script, threshold) / 1000  # type: ignore[attr-defined]
    page.wait_for_timeout(300)  # type: ignore[attr-defined]
    return seconds


if __name__ == "__main__":
    main()
