"""The cube that everything is measured on: raw voxels, and the affinities that the bundled model predicts from them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import zarr

VOXEL_SIZE_NM = [10, 10, 10]


@dataclass(frozen=True)
class Cube:
    """Where raw voxels and affinities lie, the folder for what is made of them, and the cores to use."""

    folder: Path
    edge: int
    cores: int

    @property
    def raw(self) -> Path:
        """Zarr array (z, y, x) uint8."""
        return self.folder / f"cube{self.edge}.zarr"

    @property
    def affinities(self) -> Path:
        """Zarr array (c, z, y, x) uint8."""
        return self.folder / f"cube{self.edge}.neuroseg" / "affinities.zarr"

    @property
    def voxels(self) -> int:
        """How many voxels the cube has."""
        return int(self.edge) ** 3


def command(*arguments: str) -> list[str]:
    """Return the command line of `neuroseg ARGUMENTS` in this environment."""
    return [sys.executable, "-m", "neuroseg", *arguments]


def prepared(folder: Path, raw: str | None, edge: int, cores: int) -> Cube:
    """Return the cube in `folder`, made from the middle of the HDF5 dataset `raw` where it is not there yet."""
    data = Cube(folder, edge, cores)
    folder.mkdir(parents=True, exist_ok=True)
    if not data.raw.exists():
        if raw is None:
            raise SystemExit(f"{data.raw} is not there yet: give the raw volume, --raw FILE.h5:DATASET")
        file, _, dataset = raw.partition(":")
        with h5py.File(file) as opened:
            begin = [(size - edge) // 2 for size in opened[dataset].shape]
            if min(begin) < 0:
                raise SystemExit(f"{raw} has shape {opened[dataset].shape}: too small for a cube of {edge}")
            voxels = opened[dataset][tuple(slice(b, b + edge) for b in begin)]
        array = zarr.create_array(
            str(data.raw), shape=voxels.shape, dtype="u1", chunks=(64, 64, 64), attributes={"voxel_size": VOXEL_SIZE_NM}
        )
        array[:] = voxels
    # A finished prediction does nothing.
    subprocess.run(command("predict", str(data.raw), "--blocks", "128", "--workers", "1"), check=True)
    return data


def eightfold(data: Cube) -> Path:
    """Return affinities of twice the cube's edge: the cube eight times, made where they are not there yet."""
    path = data.folder / f"eight{data.edge}.zarr"
    one = zarr.open_array(str(data.affinities), mode="r")
    shape = (one.shape[0], *(2 * size for size in one.shape[1:]))
    if path.exists() and zarr.open_array(str(path), mode="r").shape == shape:
        return path
    many = zarr.create_array(
        str(path), shape=shape, dtype="u1", chunks=(1, 64, 64, 64), attributes=dict(one.attrs), overwrite=True
    )
    many[:] = np.tile(one[:], (1, 2, 2, 2))
    return path
