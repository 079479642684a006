"""A profile of one block: FOLDER/trace.json.gz for chrome://tracing, and numbers from it."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from gpu_machine import synchronise
from report import Row
from subjects import Bench
from torch.profiler import ProfilerActivity, profile, record_function

from neuroseg.affinities.device import decoding_threads
from neuroseg.affinities.predictors import open_predictor
from neuroseg.affinities.tiles import box_of_windows
from neuroseg.affinities.transfers import Transfers

PART, KERNELS = "trace", "trace: longest kernels"
_RANGE = "block"
_SHOWN_KERNELS, _SHOWN_LENGTH = 8, 100

Event = Mapping[str, Any]


def measure(bench: Bench, seconds: float, rows: Sequence[Row], *, name: str) -> list[Row]:
    """Return copies, synchronisations and kernels of the second block. The first one warms up."""
    predictor = open_predictor(bench.bundle(name), bench.device, "centre")
    settings = predictor.settings
    blocks = bench.lattice(settings).blocks()
    around = box_of_windows(settings.tiles(blocks[0].write_roi), settings.context)
    read = bench.source().open(around.shape, decoding_threads(bench.device))
    predictor.predict(read, bench.shape, blocks[0].write_roi)
    synchronise(bench.device)
    is_gpu = bench.device.type == "cuda"
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if is_gpu else [ProfilerActivity.CPU]
    with (
        patch.object(Transfers, "upload", autospec=True, side_effect=Transfers.upload) as upload,
        patch.object(Transfers, "download", autospec=True, side_effect=Transfers.download) as download,
        profile(activities=activities) as profiled,
    ):
        with record_function(_RANGE):
            predictor.begin(read, bench.shape, blocks[min(1, len(blocks) - 1)].write_roi)()
        synchronise(bench.device)
    trace = bench.folder / "trace.json.gz"
    profiled.export_chrome_trace(str(trace))
    events = _events(trace)
    calls = {"upload_calls": upload.call_count, "download_calls": download.call_count}
    found = gpu_numbers(events) if is_gpu else cpu_numbers(events)
    return [Row(PART, f"{name}, centre", {**calls, **found}), *longest_kernels(events)]


def gpu_numbers(events: Sequence[Event]) -> dict[str, float | None]:
    """Return counts and seconds of the range `block` in a chrome trace, whose times are in microseconds.

    Synchronisations are the calls of the CUDA runtime that wait for the device, within the range.
    """
    begin, end = _range(events)
    copies = [event["name"] for event in _of(events, "gpu_memcpy")]
    waits = [
        event
        for event in _of(events, "cuda_runtime", "cuda_driver")
        if "Synchronize" in event["name"] and begin <= event["ts"] <= end
    ]
    kernels = _of(events, "kernel")
    busy = _union([(event["ts"], event["ts"] + event["dur"]) for event in kernels])
    return {
        "uploads": sum("HtoD" in name for name in copies),
        "downloads": sum("DtoH" in name for name in copies),
        "copies_on_device": sum("DtoD" in name for name in copies),
        "synchronisations": len(waits),
        "kernels": len(kernels),
        "seconds": round((end - begin) / 1e6, 5),
        "waiting_s": round(sum(event["dur"] for event in waits) / 1e6, 5),
        "kernels_s": round(busy / 1e6, 5),
        "share_with_kernels": round(busy / (end - begin), 4),
    }


def cpu_numbers(events: Sequence[Event]) -> dict[str, float | None]:
    """Return the same numbers for a CPU, where nothing is copied: only the time is known."""
    begin, end = _range(events)
    return {"synchronisations": None, "kernels": None, "seconds": round((end - begin) / 1e6, 5)}


def longest_kernels(events: Sequence[Event]) -> list[Row]:
    """Return a row for each of the kernels with the longest total time. Empty on a CPU."""
    taken: dict[str, list[float]] = defaultdict(list)
    for event in _of(events, "kernel"):
        taken[event["name"]].append(event["dur"] / 1e6)
    whole = sum(map(sum, taken.values()))
    ordered = sorted(taken.items(), key=lambda item: -sum(item[1]))[:_SHOWN_KERNELS]
    return [
        Row(
            KERNELS,
            name[:_SHOWN_LENGTH],
            {"seconds": round(sum(each), 5), "share": round(sum(each) / whole, 4), "count": len(each)},
        )
        for name, each in ordered
    ]


def _events(trace: Path) -> list[Event]:
    with gzip.open(trace, "rt") as file:
        events: list[Event] = json.load(file)["traceEvents"]
    return events


def _of(events: Sequence[Event], *categories: str) -> list[Event]:
    """Return the events with a duration in some categories."""
    return [event for event in events if event.get("ph") == "X" and event.get("cat") in categories]


def _range(events: Sequence[Event]) -> tuple[float, float]:
    found = next(event for event in _of(events, "user_annotation") if event["name"] == _RANGE)
    return found["ts"], found["ts"] + found["dur"]


def _union(spans: Sequence[tuple[float, float]]) -> float:
    """Return the length that some spans cover together."""
    covered, last = 0.0, float("-inf")
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, last))
        last = max(last, end)
    return covered
