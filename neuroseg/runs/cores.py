"""The number of workers on this machine."""

from __future__ import annotations

import os


def own_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def predicting_workers(device: str) -> int:
    """Return the number of workers that predict: one per GPU, or one per core on CPUs."""
    if not device.startswith("cuda"):
        return own_cores()
    from neuroseg.affinities.device import own_gpus

    return max(1, len(own_gpus(device)))
