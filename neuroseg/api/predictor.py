"""A network in this process, for notebooks and other tools: array -> affinities."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Triple, parse_roi, slices
from neuroseg.networks.bundle import open_bundle

if TYPE_CHECKING:
    from neuroseg.affinities.inference import Predictor as RegionPredictor


class Predictor:
    """Predicts the affinities of arrays with a model, without files. The bytes are those of `neuroseg predict`.

    `model` is the name or the folder of a model, `device` is `auto`, `cpu`, `cuda` or `cuda:N`, and `blend` replaces
    that of the model (`centre` or `gaussian`). The model is loaded once, on the first use. A CPU uses one core.

    Raises InputError if there is no such model or device.

    Examples:
        >>> predictor = neuroseg.Predictor("fib25_light")
        >>> predictor.affinities(raw).shape
        (3, 64, 128, 128)
    """

    def __init__(self, model: str | Path, *, device: str = "auto", blend: str | None = None) -> None:
        from neuroseg.affinities.device import choose_device

        self._bundle, self._device, self._blend = open_bundle(str(model)), choose_device(device), blend
        self._bundle.check(blend)

    @property
    def offsets(self) -> tuple[Triple, ...]:
        """The offset (z, y, x) in voxels of each channel: affinity of voxel v and voxel v + offset."""
        return self._bundle.card.offsets

    @property
    def voxel_size_nm(self) -> tuple[float, float, float]:
        """The voxel size (z, y, x) of the model's training data. Raw must have about the same."""
        return self._bundle.card.voxel_size_nm

    def affinities(self, raw: Any, *, roi: str | None = None) -> NDArray[np.uint8]:
        """Return the affinities `(c, z, y, x)` of raw as uint8: round(255 a), where a is in [0, 1].

        `raw` is a uint8 array `(z, y, x)`: numpy, zarr, HDF5, or another one with `shape`, `dtype` and slices. `roi` is
        `z0:z1,y0:y1,x0:x1` in voxels; only this region and its context are read. Beyond its faces, `raw` is mirrored.

        Raises InputError for another shape or data type, and NeurosegError if the network returns NaN.
        """
        shape = _checked_shape(raw)
        return self._predictor.predict(
            lambda box: np.asarray(raw[slices(box)]), shape, parse_roi(roi or ":,:,:", shape)
        )

    @cached_property
    def _predictor(self) -> RegionPredictor:
        from neuroseg.affinities.predictors import open_predictor

        return open_predictor(self._bundle, self._device, self._blend)


def _checked_shape(raw: Any) -> Sequence[int]:
    """Return the shape of raw. Raises InputError unless it is a uint8 array with three axes and voxels."""
    shape, dtype = tuple(getattr(raw, "shape", ())), getattr(raw, "dtype", type(raw).__name__)
    if len(shape) != 3 or 0 in shape:
        raise InputError(f"raw has shape {shape}, expected three axes (z, y, x) with at least one voxel")
    if dtype != np.uint8:
        raise InputError(
            f"raw has data type {dtype}, expected uint8", hint="scale grey values to 0 (black) to 255 (white)"
        )
    return shape
