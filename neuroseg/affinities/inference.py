"""Input windows -> uint8 affinities of output tiles, by a reproducible forward pass of the network.

On a CPU, every forward pass uses one intra-op thread and the recorded batch size: other numbers would give different
bytes. Several workers use several cores.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray
from torch import nn

from neuroseg.affinities.device import precision_of
from neuroseg.affinities.tiles import blending_weights, read_window, tiles_covering, windows_covering
from neuroseg.errors import NeurosegError
from neuroseg.geometry import Triple
from neuroseg.networks.windows import WindowRule, checked_margin

ReadRaw = Callable[[Roi], NDArray[np.generic]]
Predict = Callable[[Sequence[NDArray[np.generic]]], NDArray[np.generic]]


@dataclass(frozen=True)
class TileSettings:
    """Shapes of output tile and context in voxels, batch size, divisor of raw, number of channels, and blend."""

    output: Triple
    context: Triple
    batch: int
    raw_scale: float
    channels: int
    blend: str = "centre"

    def tiles(self, roi: Roi) -> list[Roi]:
        """Return the output tiles whose affinities contribute to `roi`."""
        if self.blend == "gaussian":
            return windows_covering(roi, self.output, self.context)
        return tiles_covering(roi, self.output)


class Predictor:
    """A network on a device. A call computes the affinities of input windows; only one thread computes at a time."""

    def __init__(self, network: nn.Module, settings: TileSettings, device: torch.device) -> None:
        rule = network.windows
        assert isinstance(rule, WindowRule)
        self._margin = checked_margin(rule, settings.output, settings.context, settings.blend)
        if device.type == "cpu":
            torch.set_num_threads(1)
        make_repeatable(device)
        self._settings, self._device, self._precision = settings, device, precision_of(device)
        self._lock = threading.Lock()
        self._weights: torch.Tensor | None = None
        if settings.blend == "gaussian":
            self._weights = torch.from_numpy(blending_weights(settings.output, settings.context)).to(device)
        self._network = network.eval().to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, windows: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
        """Return the affinities `(n, c, z, y, x)` of n <= batch input windows `(z, y, x)`.

        Blend `centre`: of the output tiles, uint8, round(255 a). Blend `gaussian`: of the windows, float32, multiplied
        by their weights; the caller sums them.

        Raises NeurosegError if the network returns NaN, which would be stored as 0.
        """
        settings = self._settings
        stacked = np.zeros((settings.batch, 1, *windows[0].shape), np.float32)
        for place, window in zip(stacked, windows, strict=False):
            place[0] = window
        with self._lock:
            raw = torch.from_numpy(stacked).to(self._device) / settings.raw_scale
            with torch.autocast(self._device.type, self._precision, enabled=self._precision != torch.float32):
                logits = self._network(raw.contiguous(memory_format=torch.channels_last_3d))
            logits = logits[: len(windows), : settings.channels]
            if self._weights is not None:
                return (self._affinities(logits) * self._weights).contiguous().cpu().numpy()
            # The output of valid convolutions is already smaller than the window.
            left = [c - m for c, m in zip(settings.context, self._margin, strict=True)]
            z, y, x = (slice(rest, rest + o) for rest, o in zip(left, settings.output, strict=True))
            affinities = self._affinities(logits[..., z, y, x])
            return (affinities * 255.0 + 0.5).to(torch.uint8).contiguous().cpu().numpy()

    def _affinities(self, logits: torch.Tensor) -> torch.Tensor:
        affinities = torch.sigmoid(logits.float())
        if bool(torch.isnan(affinities).any()):
            precision = str(self._precision).removeprefix("torch.")
            raise NeurosegError(
                "the network returned NaN: its weights contain NaN, or its values exceed the range of "
                f"{precision} on this {self._device.type}",
                hint="try another device with --device",
            )
        return affinities


def make_repeatable(device: torch.device) -> None:
    """Use deterministic kernels on a GPU if there are any."""
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False


def predict_region(
    predictor: Predict, read: ReadRaw, shape: Sequence[int], settings: TileSettings, roi: Roi
) -> NDArray[np.uint8]:
    """Return the affinities `(c, z, y, x)` uint8 of `roi`, a region of the volume of `shape`.

    Complete tiles are computed, then cropped to `roi`.
    """
    return begin_region(predictor, read, shape, settings, roi)()


def begin_region(
    predictor: Predict, read: ReadRaw, shape: Sequence[int], settings: TileSettings, roi: Roi
) -> Callable[[], NDArray[np.uint8]]:
    """Read `roi` and compute all but the last batch of its tiles. Return a function that computes the last batch.

    The next batch is read while the network computes the current one. With the returned function, the caller can read
    the next region while the last batch of this one is computed.
    """
    tiles = settings.tiles(roi)
    batches = [tiles[at : at + settings.batch] for at in range(0, len(tiles), settings.batch)]
    context = Coordinate(settings.context)
    blended = settings.blend == "gaussian"
    out = np.zeros((settings.channels, *roi.shape), np.float32 if blended else np.uint8)

    def windows(batch: Sequence[Roi]) -> list[NDArray[np.generic]]:
        return [read_window(read, tile.grow(context, context), shape) for tile in batch]

    def compute(batch: Sequence[Roi], windows: Sequence[NDArray[np.generic]]) -> None:
        for tile, affinities in zip(batch, predictor(windows), strict=True):
            # The order of windows is that of the lattice, so the sum at a voxel does not depend on the region.
            _add(out, roi, tile.grow(context, context) if blended else tile, affinities)

    ready = windows(batches[0])
    with ThreadPoolExecutor(1, "read") as reader:
        for batch, following in itertools.pairwise(batches):
            upcoming = reader.submit(windows, following)
            compute(batch, ready)
            ready = upcoming.result()

    def finish() -> NDArray[np.uint8]:
        compute(batches[-1], ready)
        return (out * np.float32(255) + np.float32(0.5)).astype(np.uint8) if blended else out

    return finish


def _add(out: NDArray[Any], roi: Roi, box: Roi, affinities: NDArray[Any]) -> None:
    """Add the affinities of `box` to `out`, the affinities of `roi`, where both overlap."""
    part = box.intersect(roi)
    target = tuple(slice(b - o, e - o) for b, e, o in zip(part.begin, part.end, roi.begin, strict=True))
    source = tuple(slice(b - o, e - o) for b, e, o in zip(part.begin, part.end, box.begin, strict=True))
    out[(slice(None), *target)] += affinities[(slice(None), *source)]
