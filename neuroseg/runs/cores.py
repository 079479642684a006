"""The number of workers on this machine."""

from __future__ import annotations

import os


def own_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def predicting_workers(device: str) -> int:
    """Return the number of workers that predict on this machine: one per GPU of the first one's kind, or per core."""
    if not device.startswith("cuda"):
        return own_cores()
    if device != "cuda":
        return 1
    from neuroseg.affinities.gpus import alike, listed_gpus

    return max(1, len(alike(listed_gpus())))
