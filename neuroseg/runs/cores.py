"""How many workers this machine runs at a time."""

from __future__ import annotations

import os


def own_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def predicting_workers(device: str) -> int:
    """Return how many workers predict: one a GPU, which several would only share; on CPUs each computes on one core."""
    if not device.startswith("cuda"):
        return own_cores()
    from neuroseg.affinities.device import own_gpus

    return max(1, len(own_gpus(device)))
