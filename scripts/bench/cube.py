"""The cube of the benchmarks: raw voxels, and the affinities that the bundled model predicts from them."""

from __future__ import annotations

import resource
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
    """The paths of raw voxels and affinities, the folder for results, and the number of cores."""

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
        """Number of voxels of the cube."""
        return int(self.edge) ** 3


def children_cpu_seconds() -> float:
    """Return the CPU time of the ended children of this process, in user and system mode."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(*arguments: str) -> list[str]:
    """Return the command line of `neuroseg ARGUMENTS` in this environment."""
    return [sys.executable, "-m", "neuroseg", *arguments]


def prepared(folder: Path, raw: str | None, edge: int, cores: int) -> Cube:
    """Return the cube in `folder`. If it does not exist, cut it from the middle of the HDF5 dataset `raw`."""
    data = Cube(folder, edge, cores)
    folder.mkdir(parents=True, exist_ok=True)
    if not data.raw.exists():
        if raw is None:
            raise SystemExit(f"{data.raw} does not exist\nhint: pass the raw volume with --raw FILE.h5:DATASET")
        file, _, dataset = raw.partition(":")
        with h5py.File(file) as opened:
            begin = [(size - edge) // 2 for size in opened[dataset].shape]
            if min(begin) < 0:
                raise SystemExit(f"{raw} has shape {opened[dataset].shape}, too small for a cube of {edge} voxels")
            voxels = opened[dataset][tuple(slice(b, b + edge) for b in begin)]
        array = zarr.create_array(
            str(data.raw), shape=voxels.shape, dtype="u1", chunks=(64, 64, 64), attributes={"voxel_size": VOXEL_SIZE_NM}
        )
        array[:] = voxels
    # If the prediction is finished, this does nothing.
    subprocess.run(command("predict", str(data.raw), "--blocks", "128", "--workers", "1"), check=True)
    return data


def eightfold(data: Cube) -> Path:
    """Return affinities of eight cubes in one volume. Write them if they do not exist."""
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
