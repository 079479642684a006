"""scripts/bench/gpu: each part reports its numbers, and a part that fails does not stop the others."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from neuroseg.blocks import whole_lattice

BENCH = Path(__file__).parents[1] / "scripts" / "bench"
# Narrow networks instead of those that are measured.
NARROW = """
import runpy, sys
sys.path[:0] = [{gpu!r}, {bench!r}]
import subjects
from subjects import RandomModel
subjects.BUNDLED_MODELS = {{}}
subjects.RANDOM_MODELS = {{
    "light": RandomModel((16, 16, 16), (8, 8, 8), {{"widths": [4, 8]}}),
    "superhuman": RandomModel((4, 16, 16), (2, 8, 8), {{"widths": [2, 2]}}),
    "mala": RandomModel((8, 8, 8), (6, 10, 10), {{"widths": [2, 3]}}),
}}
sys.argv = ["gpu", *sys.argv[1:]]
runpy.run_path({gpu!r}, run_name="__main__")
"""
NEEDS_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


@pytest.fixture
def gpu_bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that imports a module of scripts/bench/gpu."""
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.syspath_prepend(BENCH / "gpu")
    return importlib.import_module


@pytest.mark.long
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def test_each_part_reports_its_numbers(device: str, tmp_path: Path) -> None:
    edge = "48" if device == "cpu" else "1024"  # several blocks: tiles are wide on a GPU
    script = NARROW.format(gpu=str(BENCH / "gpu"), bench=str(BENCH))
    line = [sys.executable, "-c", script, str(tmp_path), "--device", device, "--edge", edge, "--seconds", "480"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=900)
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == found["rows"]
    assert (tmp_path / "trace.json.gz").stat().st_size > 1000
    rows = {(row["part"], row["what"]): row for row in found["rows"]}
    predictions = ("light, centre", "superhuman, centre", "mala, centre", "superhuman, gaussian")
    for what in predictions:
        bare, command = rows["bare network", what], rows["predict", what]
        assert min(bare["mvoxel_per_s"], bare["tflop_per_s"], bare["gflop_per_pass"]) > 0
        assert bare["mvoxel_per_s"] == pytest.approx(bare["kept_voxels_per_pass"] / bare["ms_per_pass"] / 1e3, rel=1e-2)
        assert min(command[f"block_{part}_s"] for part in ("read", "compute", "write")) > 0
        rate = command["mvoxel_per_s_after_first_block"]
        assert rate > command["mvoxel_per_s"] > 0
        assert command["ratio_to_bare_network"] == pytest.approx(rate / bare["mvoxel_per_s"], rel=1e-2)
        assert command["blocks"] >= 2
    assert rows["decode", "threads 1"]["mvoxel_per_s"] > 0
    trace, training = rows["trace", "superhuman, centre"], rows["training", "superhuman"]
    assert (trace["upload_calls"], trace["download_calls"]) == (1, 2)
    assert training["patches_per_s"] == pytest.approx(training["batch"] * training["steps_per_s"], rel=1e-3)
    assert 0 <= training["share_waiting_for_loader"] < 1
    assert training["steps"] > 1
    only_gpu = [
        found["machine"]["gpu"], trace["synchronisations"], trace["kernels"],
        *(rows["predict", what]["gpu_utilisation_percent"] for what in predictions),
    ]  # fmt: skip
    assert [value is None for value in only_gpu] == [device == "cpu"] * len(only_gpu)


def test_a_part_that_fails_is_reported_and_the_others_go_on(gpu_bench: Any, tmp_path: Path) -> None:
    arms, report, subjects = (gpu_bench(name) for name in ("arms", "report", "subjects"))
    bench = subjects.Bench(tmp_path, "cpu", torch.device("cpu"), 48, 10)
    now, given, seen = [0.0], [], []

    def takes(seconds: float) -> Any:
        def measure(bench: object, share: float, rows: list[Any]) -> list[Any]:
            given.append(share)
            now[0] += seconds
            return [report.Row("part", f"{seconds:g} s", {"seconds": seconds, "of_a_gpu": None})]

        return measure

    def fails(bench: object, share: float, rows: list[Any]) -> list[Any]:
        raise ValueError("no such network")

    weighted = [(1, takes(10)), (1, fails), (2, takes(89)), (1, takes(1))]
    chosen = [arms.Arm("part", f"arm {number}", *each) for number, each in enumerate(weighted)]
    rows = arms.run_arms(chosen, bench, 100.0, lambda rows: seen.append(len(rows)), clock=lambda: now[0])
    assert given == [20, 60], "time that a part leaves is shared by the next ones"
    assert [row.error for row in rows] == [
        "", "ValueError: no such network", "", "TimeoutError: only 1 s of the time limit are left"
    ]  # fmt: skip
    assert seen == [1, 2, 3, 4]
    assert rows[0].as_dict() == {"part": "part", "what": "10 s", "seconds": 10, "of_a_gpu": None}
    assert rows[1].as_dict() == {"part": "part", "what": "arm 1", "error": "ValueError: no such network"}
    with (tmp_path / "table").open("w") as file:
        report.print_table(rows, file)
    table = (tmp_path / "table").read_text()
    assert "seconds 89" in table
    assert "failed: ValueError: no such network" in table


def test_numbers_of_a_gpu_trace(gpu_bench: Any) -> None:
    trace = gpu_bench("block_trace")

    def event(category: str, name: str, begin: float, duration: float) -> dict[str, Any]:
        return {"ph": "X", "cat": category, "name": name, "ts": begin, "dur": duration}

    events = [
        {"ph": "M", "name": "process_name"},
        event("user_annotation", "block", 1000, 1000),
        event("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", 1010, 5),
        event("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", 1900, 5),
        event("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", 1910, 5),
        event("gpu_memcpy", "Memcpy DtoD (Device -> Device)", 1500, 5),
        event("cuda_runtime", "cudaEventSynchronize", 1800, 100),
        event("cuda_runtime", "cudaLaunchKernel", 1020, 5),
        event("cuda_runtime", "cudaDeviceSynchronize", 2500, 50),
        event("kernel", "convolution", 1100, 300),
        event("kernel", "convolution", 1300, 300),
        event("kernel", "elu", 1700, 100),
    ]
    assert trace.gpu_numbers(events) == {
        "uploads": 1, "downloads": 2, "copies_on_device": 1, "synchronisations": 1, "kernels": 3, "seconds": 0.001,
        "waiting_s": 0.0001, "kernels_s": 0.0006, "share_with_kernels": 0.6,
    }  # fmt: skip
    assert [(row.what, row.values["count"], row.values["share"]) for row in trace.longest_kernels(events)] == [
        ("convolution", 2, 0.8571), ("elu", 1, 0.1429)
    ]  # fmt: skip


def test_utilisation_is_the_mean_of_the_samples_in_between(gpu_bench: Any) -> None:
    machine = gpu_bench("gpu_machine")
    samples = [(1.0, 0.0), (2.0, 90.0), (3.0, 100.0), (4.0, 10.0)]
    assert machine.mean_between(samples, 1.5, 3.5) == 95
    assert machine.mean_between([], 1.5, 3.5) is None
    assert machine.peak_tflops(torch.device("cpu")) is None


def test_a_box_of_blocks_grows_along_x_first(gpu_bench: Any) -> None:
    some_blocks = gpu_bench("zarr_to_zarr").some_blocks
    lattice = whole_lattice((40, 64, 100), (16, 16, 32))
    counts = {wanted: [s // w for s, w in zip(some_blocks(lattice, wanted).shape, (16, 16, 32), strict=True)]
              for wanted in (0, 2, 3, 7, 13, 1000)}  # fmt: skip
    assert counts == {
        0: [1, 1, 2], 2: [1, 1, 2], 3: [1, 1, 3], 7: [1, 2, 3], 13: [1, 4, 3], 1000: [2, 4, 3]
    }  # fmt: skip
    assert some_blocks(whole_lattice((8, 8, 8), (16, 16, 16)), 5).shape == (8, 8, 8)


def test_training_speed_leaves_out_the_first_steps(gpu_bench: Any) -> None:
    speed = gpu_bench("training_speed").speed
    # Three slow steps, then four of 1 s that wait 0.25 s for the loader.
    updates = [(0.0, 10.0), (11.0, 20.0), (21.0, 30.0), *((n + 0.25, n + 1.0) for n in range(30, 34))]
    found = speed(updates, batch=2)
    assert (found["steps"], found["steps_per_s"], found["patches_per_s"]) == (4, 1, 2)
    assert (found["share_waiting_for_loader"], found["update_s"]) == (0.25, 0.75)
