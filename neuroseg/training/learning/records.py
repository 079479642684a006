"""Files written during training: a CSV log, TensorBoard events and the latest checkpoint."""

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
    """Append numbers to `log.csv` and to TensorBoard in the folder of a training."""

    _COLUMNS = ("step", "name", "value")

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise InputError(
                "training requires TensorBoard, which is not installed", hint="run pip install 'neuroseg[training]'"
            ) from error
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
        """Write pictures `(channels, y, x)` in [0, 1] to TensorBoard."""
        for name, picture in pictures.items():
            shown = picture if len(picture) in (1, 3) else picture.mean(0, keepdim=True)
            self._board.add_image(f"pictures/{name}", shown.clamp(0, 1), step)
        self._board.flush()

    def close(self) -> None:
        """Close the files."""
        self._board.close()


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint under another name, flush it to disk, then replace the old one."""
    # One fixed name, unlike storage.publish: a training that is killed repeatedly leaves at most one partial file.
    aside = path.with_suffix(".partial")
    torch.save(dict(state), aside)
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(aside, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint of tensors and plain values. No code in the file is executed.

    Raises InputError if the file cannot be read.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError) as error:
        raise InputError(f"cannot read the checkpoint {path}: {error or 'not enough memory'}") from error
    except Exception as error:
        reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise InputError(
            f"cannot read the checkpoint {path}: {reason}",
            hint="restore it from a copy, or train again with --restart",
        ) from error
    return state


def use_as_many_threads(stored: int | None, device: torch.device) -> None:
    """Set the number of threads to that of the checkpoint, because it changes the order of sums.

    Do nothing if OMP_NUM_THREADS is set, if there are fewer cores, or on a GPU.
    """
    mine = torch.get_num_threads()
    if stored is None or stored == mine or device.type != "cpu":
        return
    if "OMP_NUM_THREADS" in os.environ or stored > (os.cpu_count() or 1):
        logger.warning(
            "the training used %d threads before and now uses %d; the weights will differ in their last digits",
            stored, mine,
        )  # fmt: skip
        return
    torch.set_num_threads(stored)
