"""The largest batch that fits in the memory of a GPU: the card's, or half of it.

Other batches may give different bytes. So the first worker of a run tries and records the batch, and all others use it.
"""

from __future__ import annotations

import logging
import math
import platform
from collections.abc import Callable
from dataclasses import replace

import torch
from funlib.geometry import Roi

from neuroseg.affinities.inference import Predictor
from neuroseg.affinities.tiles import box_of_windows
from neuroseg.errors import NeurosegError
from neuroseg.geometry import Triple

# Bytes of a number that affinities are added up in.
_SUM_BYTES = 4

logger = logging.getLogger(__name__)


def fits(predictor: Predictor, device: torch.device, block: Triple, batch: int) -> bool:
    """Return whether one batch of windows fits in the memory of the device, beside the arrays of two blocks.

    The predictor computes batches of this size from now on.
    """
    predictor.settings = replace(predictor.settings, batch=batch)
    try:
        _pass_zeros(predictor, device, block)
    except torch.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()
    return True


def _pass_zeros(predictor: Predictor, device: torch.device, block: Triple) -> None:
    """Predict one batch of zeros, with as much other memory in use as during a run."""
    settings = predictor.settings
    around = box_of_windows(settings.tiles(Roi((0, 0, 0), block)), settings.context)
    # A worker holds two blocks: raw and its sum of affinities each.
    size = 2 * (math.prod(around.shape) + _SUM_BYTES * len(settings.offsets) * math.prod(block))
    held = torch.empty(size, dtype=torch.uint8, device=device)
    windows = torch.zeros((settings.batch, 1, *settings.window), dtype=held.dtype, device=device)
    predictor.affinities(windows)


def largest_batch(batch: int, fits_batch: Callable[[int], bool], memory: Callable[[], str]) -> int:
    """Return `batch` if it fits, otherwise half of it, and log that.

    Raises NeurosegError if neither fits. `memory()` describes the memory of the device.
    """
    if fits_batch(batch):
        return batch
    half = batch // 2
    if half and fits_batch(half):
        logger.warning(
            "a batch of %d does not fit in the memory of the GPU (%s); this run uses batches of %d",
            batch,
            memory(),
            half,
        )
        return half
    tried = f"batches of {batch} and {half} do" if half else "a batch of 1 does"
    raise NeurosegError(
        f"{tried} not fit in the memory of the GPU of {platform.node()} ({memory()})",
        hint="end other programs on this GPU, or choose a smaller tile with neuroseg models tune",
    )


def require_fit(batch: int, fits_batch: Callable[[int], bool], memory: Callable[[], str], record: object) -> None:
    """Raise NeurosegError if the batch of the run does not fit."""
    if not fits_batch(batch):
        raise NeurosegError(
            f"the batch of this run, {batch} windows (from {record}), does not fit in the memory of the GPU of "
            f"{platform.node()} ({memory()})",
            hint="end other programs on this GPU, use fewer workers, or predict again with --restart affinities",
        )


def gpu_memory(device: torch.device) -> str:
    """Return the memory of a GPU in words, such as `3.2 of 24.0 GiB free`."""
    free, size = (number / 2**30 for number in torch.cuda.mem_get_info(device))
    return f"{free:.1f} of {size:.1f} GiB free"
