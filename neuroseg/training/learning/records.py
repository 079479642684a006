"""What training leaves behind while it runs: a CSV log, TensorBoard events and the latest checkpoint."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from neuroseg.errors import InputError

logger = logging.getLogger(__name__)


class Records:
    """Appends rows of numbers to `log.csv` and to TensorBoard in the run's folder."""

    _COLUMNS = ("step", "name", "value")

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise InputError("training logs to TensorBoard: pip install 'neuroseg[training]'") from error
        self._path = folder / "log.csv"
        if not self._path.exists():
            with self._path.open("w", newline="") as file:
                csv.writer(file).writerow(self._COLUMNS)
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Record named numbers of one step."""
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerows((step, name, f"{value:.6g}") for name, value in values.items())
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        self._board.flush()

    def show(self, step: int, pictures: Mapping[str, torch.Tensor]) -> None:
        """Put pictures `(channels, y, x)` in [0, 1] on TensorBoard."""
        for name, picture in pictures.items():
            shown = picture if len(picture) in (1, 3) else picture.mean(0, keepdim=True)
            self._board.add_image(f"pictures/{name}", shown.clamp(0, 1), step)
        self._board.flush()

    def close(self) -> None:
        """Close the files."""
        self._board.close()


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint aside and to the disk, then replace the old one."""
    # One name, unlike storage.publish: of a training killed again and again no large files are left over.
    aside = path.with_suffix(".partial")
    torch.save(dict(state), aside)
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(aside, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint of tensors and plain values; nothing in the file is executed.

    Raises InputError when it cannot be read.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError) as error:
        raise InputError(f"the checkpoint {path} cannot be read: {error or 'too little memory'}") from error
    except Exception as error:
        reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise InputError(
            f"the checkpoint {path} cannot be read ({reason}); put a copy of it back, or begin again with --restart"
        ) from error
    return state


def use_as_many_threads(stored: int | None, device: torch.device) -> None:
    """Compute with as many threads as the checkpoint was made with: the sums of others are added in another order.

    Not with more than there are cores, nor against OMP_NUM_THREADS; on a GPU it does not matter.
    """
    mine = torch.get_num_threads()
    if stored is None or stored == mine or device.type != "cpu":
        return
    if "OMP_NUM_THREADS" in os.environ or stored > (os.cpu_count() or 1):
        logger.warning("made with %d threads so far, now with %d: other weights in their last digits", stored, mine)
        return
    torch.set_num_threads(stored)
