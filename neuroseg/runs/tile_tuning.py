"""A model and a device -> the speed of several tiles and batches, measured with real forward passes on random raw."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from neuroseg.affinities.inference import Predictor
from neuroseg.affinities.predictors import tile_settings
from neuroseg.errors import NeurosegError
from neuroseg.geometry import Triple, triple
from neuroseg.networks.bundle import Bundle
from neuroseg.networks.card import TileCard
from neuroseg.networks.wide_tile import accepted_widths, wide_tile
from neuroseg.networks.windows import MOST_WINDOW_VOXELS, WindowRule
from neuroseg.runs.measuring import Memory
from neuroseg.storage.free_memory import free_memory_bytes

_BATCHES = (1, 2, 4)
# Widths to try, as multiples of those of the present tile.
_SCALES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
_NO_MEMORY, _NO_TIME = "not enough memory", "not enough time (--seconds)"


@dataclass(frozen=True)
class Trial:
    """A tile, and either its speed in Mvoxel/s that are kept, or the reason why it was not measured."""

    tile: TileCard
    mvoxel_per_s: float | None
    reason: str = ""


def candidates(rule: WindowRule, tile: TileCard) -> list[TileCard]:
    """Return tiles and batches to measure, the smallest forward pass first, with the context and blend of `tile`.

    Widths are multiples of those of `tile`, rounded up to what the network accepts; one tile is that of `wide_tile`.
    With the blend `gaussian`, only the batch differs: other widths would change how far windows overlap.
    """
    outputs, context = {tile.output_voxels}, tile.context_voxels
    if tile.blend == "centre":
        scaled = [triple([math.ceil(scale * width) for width in tile.output_voxels]) for scale in _SCALES]
        found = [_accepted(rule, context, least) for least in scaled]
        outputs |= {output for output in (*found, wide_tile(rule, context, tile.output_voxels)) if output is not None}
    made = []
    for output in outputs:
        window = math.prod(o + 2 * c for o, c in zip(output, context, strict=True))
        for batch in {*_BATCHES, tile.batch}:
            if batch * window <= MOST_WINDOW_VOXELS:
                changed = {"output_voxels": output, "batch": batch}
                made.append(TileCard.model_validate({**tile.model_dump(), **changed}))
    return sorted(made, key=lambda each: (each.batch * each.window_voxels, each.batch, each.output_voxels))


def tune(
    bundle: Bundle,
    device: torch.device,
    tiles: Sequence[TileCard],
    *,
    seconds: float,
    rng: np.random.Generator,
    observe: Callable[[Trial], object] = lambda trial: None,
) -> list[Trial]:
    """Return the speed of each of these tiles, in their order. `observe` is called after each one.

    All of them take about `seconds`, of which each gets an equal share of what is left. A tile is skipped if it needs
    more memory or time than there is, estimated from the tiles before it. So give the smallest first.

    Raises NeurosegError if none could be measured.
    """
    deadline = time.monotonic() + seconds
    trials: list[Trial] = []
    needs = _Needs(device)
    for number, tile in enumerate(tiles):
        left = deadline - time.monotonic()
        reason, speed = needs.excess(tile, left), None
        if not reason:
            reason, speed = _measured(bundle, device, tile, left / (len(tiles) - number), needs, rng)
        trials.append(Trial(tile, speed, reason))
        observe(trials[-1])
    if not any(trial.mvoxel_per_s for trial in trials):
        raise NeurosegError(f"no tile of {bundle.card.name} could be measured: {trials[0].reason}")
    return trials


def fastest(trials: Sequence[Trial]) -> Trial:
    """Return the trial that keeps most voxels per second."""
    return max(trials, key=lambda trial: trial.mvoxel_per_s or 0.0)


class _Needs:
    """Time and memory of the passes so far, as an estimate for the next one."""

    def __init__(self, device: torch.device) -> None:
        self._has_own_memory = device.type != "cpu"
        self._seconds, self._bytes = 0.0, 0.0  # per voxel of the latest pass
        self._too_many = math.inf  # voxels of a pass that did not fit into memory

    def record(self, tile: TileCard, seconds: float, memory_mib: int) -> None:
        """Remember a pass that was measured."""
        voxels = tile.batch * tile.window_voxels
        self._seconds, self._bytes = seconds / voxels, memory_mib * 2**20 / voxels

    def refuse(self, tile: TileCard) -> None:
        """Remember a pass that did not fit into memory."""
        self._too_many = tile.batch * tile.window_voxels

    def excess(self, tile: TileCard, left_s: float) -> str:
        """Return what a tile would need more of than there is, or an empty text."""
        voxels = tile.batch * tile.window_voxels
        # A CPU shares the memory of the machine. Without this check, the system could kill other processes.
        if voxels >= self._too_many or (not self._has_own_memory and voxels * self._bytes > free_memory_bytes()):
            return _NO_MEMORY
        return _NO_TIME if 2 * voxels * self._seconds > left_s else ""  # one pass prepares, one is measured


def _measured(
    bundle: Bundle, device: torch.device, tile: TileCard, seconds: float, needs: _Needs, rng: np.random.Generator
) -> tuple[str, float | None]:
    """Return the reason why a tile cannot be measured, or "", and its speed in Mvoxel/s that are kept."""
    memory = Memory()
    try:
        windows, took = _windows_and_seconds(bundle, device, tile, seconds, rng)
    except (RuntimeError, MemoryError) as error:
        if not _is_memory(error):
            return str(error).partition("\n")[0], None
        needs.refuse(tile)
        return _NO_MEMORY, None
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    needs.record(tile, took / windows * tile.batch, memory.more_mib())
    return "", windows * math.prod(tile.output_voxels) / took / 1e6


def _windows_and_seconds(
    bundle: Bundle, device: torch.device, tile: TileCard, seconds: float, rng: np.random.Generator
) -> tuple[int, float]:
    """Predict a batch of tiles of random raw for about `seconds`. Return the number of windows and the seconds."""
    card = bundle.card.model_copy(update={"tile": tile})
    predictor = Predictor(bundle.network(), tile_settings(card), device)
    shape = triple([o * n for o, n in zip(tile.output_voxels, (1, 1, tile.batch), strict=True)])
    # So far inside the volume that no window reaches its faces.
    far = [-(-2 * c // o + 1) * o for o, c in zip(tile.output_voxels, tile.context_voxels, strict=True)]
    roi = Roi(far, shape)
    volume = triple(roi.end + Coordinate(far))

    @cache
    def random(size: Triple) -> NDArray[np.uint8]:
        return rng.integers(0, 256, size, np.uint8)

    counted = [0]

    def count(windows: int) -> None:
        counted[0] += windows

    def predict() -> None:
        predictor.predict(lambda at: random(triple(at.shape)), volume, roi, count)

    predict()
    counted[0], began, took = 0, time.monotonic(), 0.0
    while took < seconds or not counted[0]:
        predict()
        took = time.monotonic() - began
    return counted[0], took


def _is_memory(error: Exception) -> bool:
    """Return whether memory was exhausted. On CPUs, torch raises a RuntimeError of its allocator."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocat" in str(error)


def _accepted(rule: WindowRule, context: Triple, least: Triple) -> Triple | None:
    """Return the smallest output tile of at least this shape that the network accepts, or None."""
    widths = [accepted_widths(rule, context, least, (axis,)) for axis in range(3)]
    return triple([each[0] for each in widths]) if all(map(len, widths)) else None
