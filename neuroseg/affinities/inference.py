"""Raw of a region and its context -> uint8 affinities of the region, by a reproducible forward pass of the network.

    read once -> upload -> cut windows -> network -> sigmoid -> add up or crop -> uint8 -> download once
                 |____________________________ on the device __________________________|

On a CPU, every forward pass uses one intra-op thread and the recorded batch size: other numbers would give different
bytes. Several workers use several cores.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray
from torch import nn

from neuroseg.affinities.device import precision_of
from neuroseg.affinities.tiles import (
    blending_weights,
    box_of_windows,
    read_reflected,
    tiles_covering,
    windows_covering,
)
from neuroseg.affinities.transfers import Transfers
from neuroseg.affinities.turned_windows import (
    MEAN,
    NO_AUGMENTATION,
    Augmentation,
    check_augmentation,
    sources,
    turned,
    turned_back,
)
from neuroseg.errors import NeurosegError
from neuroseg.geometry import Triple, slices, triple
from neuroseg.networks.folding import folded
from neuroseg.networks.padding import padded
from neuroseg.networks.windows import WindowRule, checked_margin

ReadRaw = Callable[[Roi], NDArray[np.generic]]
Finish = Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True)
class TileSettings:
    """Shapes of output tile and context in voxels, batch size, divisor of raw, offset of each channel, and blend."""

    output: Triple
    context: Triple
    batch: int
    raw_scale: float
    offsets: tuple[Triple, ...]
    blend: str = "centre"

    @property
    def window(self) -> Triple:
        """The shape of an input window."""
        return triple([o + 2 * c for o, c in zip(self.output, self.context, strict=True)])

    def window_of(self, tile: Roi) -> Roi:
        """Return the box of the input window of a tile."""
        context = Coordinate(self.context)
        return tile.grow(context, context)

    def tiles(self, roi: Roi) -> list[Roi]:
        """Return the output tiles whose affinities contribute to `roi`."""
        if self.blend == "gaussian":
            return windows_covering(roi, self.output, self.context)
        return tiles_covering(roi, self.output)


class Predictor:
    """A network on a device. It predicts the affinities of regions; only one thread computes at a time."""

    def __init__(
        self,
        network: nn.Module,
        settings: TileSettings,
        device: torch.device,
        augmentation: Augmentation = NO_AUGMENTATION,
    ) -> None:
        rule = network.windows
        assert isinstance(rule, WindowRule)
        margin = checked_margin(rule, settings.output, settings.context, settings.blend)
        is_blended = settings.blend == "gaussian"
        self._first = (0, 0, 0) if is_blended else [c - m for c, m in zip(settings.context, margin, strict=True)]
        self._kept = settings.window if is_blended else settings.output
        check_augmentation(augmentation, settings.offsets, settings.window, self._first, settings.blend)
        self._augmentation = augmentation
        self._turns = [(turn, sources(turn, settings.offsets)) for turn in augmentation.orientations()]
        make_repeatable(device)
        self.settings, self._device, self._precision = settings, device, precision_of(device)
        self._lock, self._transfers = threading.Lock(), Transfers(device)
        self._weights: torch.Tensor | None = None
        if is_blended:
            self._weights = torch.from_numpy(blending_weights(settings.output, settings.context)).to(device)
        folds = folded(network)
        if device.type == "cuda":
            folds = padded(folds)
        self._network = folds.to(  # type: ignore[call-overload]
            device=device, dtype=self._precision, memory_format=torch.channels_last_3d
        )

    def predict(
        self, read: ReadRaw, shape: Sequence[int], roi: Roi, observe: Callable[[int], object] = lambda windows: None
    ) -> NDArray[np.uint8]:
        """Return the affinities `(c, z, y, x)` uint8, round(255 a), of `roi`, a region of the volume of `shape`.

        Complete tiles are computed, then cropped to `roi`. `read(roi)` returns raw of a region inside the volume; it is
        called once. `observe` is called with the number of windows after each batch.

        Raises NeurosegError if the network returns NaN, which would be stored as 0.
        """
        return self.begin(read, shape, roi, observe)()

    def begin(
        self, read: ReadRaw, shape: Sequence[int], roi: Roi, observe: Callable[[int], object] = lambda windows: None
    ) -> Finish:
        """Read raw of `roi` and its context. Return the function that computes the affinities, see `predict`.

        On a GPU, one region is read while another one is computed. A CPU computes here, and nothing is left to do.
        """
        tiles = self.settings.tiles(roi)
        around = box_of_windows(tiles, self.settings.context)
        upload = self._transfers.upload(read_reflected(read, around, shape))

        def finish() -> NDArray[np.uint8]:
            with self._lock, _one_thread(self._device):
                affinities, has_nan = self._compute(upload(), around, tiles, roi, observe)
                downloads = [self._transfers.download(each) for each in (affinities, has_nan)]
            values, flag = (download() for download in downloads)
            self._refuse_nan(bool(flag))
            return values

        if self._device.type != "cpu":
            return finish
        computed = finish()
        return lambda: computed

    @torch.inference_mode()
    def _compute(
        self, raw: torch.Tensor, around: Roi, tiles: Sequence[Roi], roi: Roi, observe: Callable[[int], object]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the affinities of `roi` as uint8, and whether the network returned NaN. `raw` has the box `around`."""
        settings, device = self.settings, self._device
        kind = torch.uint8 if self._weights is None else torch.float32
        out = torch.zeros((len(settings.offsets), *roi.shape), dtype=kind, device=device)
        has_nan = torch.zeros((), dtype=torch.bool, device=device)
        windows = torch.zeros((settings.batch, 1, *settings.window), dtype=raw.dtype, device=device)
        for at in range(0, len(tiles), settings.batch):
            batch = tiles[at : at + settings.batch]
            for window, tile in zip(windows, batch, strict=False):
                window[0] = raw[slices(settings.window_of(tile), around.begin)]
            windows[len(batch) :] = 0
            affinities = self.affinities(windows)[: len(batch)]
            has_nan |= torch.isnan(affinities).any()
            # The order of windows is that of the lattice, so the sum at a voxel does not depend on the region.
            for tile, values in zip(batch, self._addends(affinities), strict=True):
                box = tile if self._weights is None else settings.window_of(tile)
                part = box.intersect(roi)
                out[(slice(None), *slices(part, roi.begin))] += values[(slice(None), *slices(part, box.begin))]
            observe(len(batch))
        return (out if self._weights is None else out.mul_(255.0).add_(0.5).to(torch.uint8)), has_nan

    @torch.inference_mode()
    def outputs(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the logits `(n, c, z, y, x)` of input windows `(n, 1, z, y, x)`, on the device, n = batch.

        Valid convolutions return fewer voxels than the windows have.
        """
        scaled = windows.float() / self.settings.raw_scale
        converted = scaled.to(dtype=self._precision, memory_format=torch.channels_last_3d)
        logits: torch.Tensor = self._network(converted)
        return logits

    @torch.inference_mode()
    def affinities(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the affinities `(n, c, z, y, x)` of the output tiles, or of whole windows if these are blended."""
        found: torch.Tensor | None = None
        for orientation, wanted in self._turns:
            logits = turned_back(self.outputs(turned(windows, orientation)), orientation)
            parts = [logits[:, channel, *self._crop(shift)] for channel, shift in wanted]
            affinities = torch.sigmoid(torch.stack(parts, 1).float())
            if found is None:
                found = affinities
            elif self._augmentation.combine == MEAN:
                found += affinities
            else:
                found = torch.minimum(found, affinities)
        assert found is not None
        return found.div_(len(self._turns)) if self._augmentation.combine == MEAN else found

    def _crop(self, shift: Sequence[int]) -> tuple[slice, slice, slice]:
        """Return the slices of what is kept from the network's output, moved by a shift."""
        z, y, x = (slice(f + s, f + s + k) for f, s, k in zip(self._first, shift, self._kept, strict=True))
        return z, y, x

    def _addends(self, affinities: torch.Tensor) -> torch.Tensor:
        """Return what is added to the result: rounded affinities of tiles, or weighted ones of windows."""
        if self._weights is None:
            return affinities.mul_(255.0).add_(0.5).to(torch.uint8)
        return affinities.mul_(self._weights)

    def _refuse_nan(self, has_nan: bool) -> None:
        if has_nan:
            precision = str(self._precision).removeprefix("torch.")
            raise NeurosegError(
                "the network returned NaN: its weights contain NaN, or its values exceed the range of "
                f"{precision} on this {self._device.type}",
                hint="try another device with --device",
            )


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Compute with one thread on a CPU, then with as many as before."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_repeatable(device: torch.device) -> None:
    """Use deterministic kernels on a GPU if there are any."""
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Every array is written before it is read.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False
