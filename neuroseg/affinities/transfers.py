"""Copies of arrays to the device that computes, and back.

On a GPU, both directions have their own stream and use pinned memory. So the next block arrives and the last one leaves
while the device computes. On a CPU, nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class Transfers:
    """Copies between this process and a device, which computes on its default stream."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_gpu = device.type == "cuda"
        if self._is_gpu:
            self._uploads, self._downloads = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]

    def upload(self, values: NDArray[Any]) -> Callable[[], torch.Tensor]:
        """Begin to copy an array to the device. Return a function that returns the copy, for use on the default stream.

        The function does not wait; the device does.
        """
        array = torch.from_numpy(np.ascontiguousarray(values))
        if not self._is_gpu:
            return lambda: array
        with torch.cuda.stream(self._uploads):
            copy = array.pin_memory().to(self._device, non_blocking=True)
            complete = self._uploads.record_event()

        def arrived() -> torch.Tensor:
            computing = torch.cuda.default_stream(self._device)
            computing.wait_event(complete)
            copy.record_stream(computing)
            return copy

        return arrived

    def download(self, tensor: torch.Tensor) -> Callable[[], NDArray[Any]]:
        """Begin to copy a tensor, as soon as it is computed. Return a function that waits for it and returns it."""
        if not self._is_gpu:
            return tensor.numpy
        self._downloads.wait_stream(torch.cuda.default_stream(self._device))
        with torch.cuda.stream(self._downloads):
            copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            copy.copy_(tensor, non_blocking=True)
            tensor.record_stream(self._downloads)
            complete = self._downloads.record_event()

        def arrived() -> NDArray[Any]:
            complete.synchronize()
            values: NDArray[Any] = copy.numpy()
            return values

        return arrived
