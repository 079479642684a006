"""Folder name -> a synthetic volume with its true labels on disk, to try the functions on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres, Triple, triple

# Smaller volumes contain at most a few neurites.
LEAST_VOXELS = 48
# A file that marks the folder of a demo. Only such a folder is ever emptied.
MARK = ".neuroseg-demo"
_SEED = 7
_BLOCK_VOXELS = (64, 64, 64)


class DemoVolume(NamedTuple):
    """The paths of a synthetic volume: `volume` is the zarr of raw values, `truth` the zarr of true labels."""

    volume: Path
    truth: Path


def demo_volume(folder: str | Path, *, shape: int | Sequence[int] = (128, 128, 192)) -> DemoVolume:
    """Return the paths of a synthetic EM volume and its true labels, written into `folder`.

    `shape` is in voxels, N or (z, y, x), at least 48 per axis. Voxels are 10 nm. Raw is uint8. Labels are uint64, one
    id per neurite. The same shape gives the same voxels. An earlier demo in `folder` is deleted with its results.

    Raises:
        InputError: `shape` is too small, or `folder` is a file or contains files other than those of an earlier demo.

    Examples:
        >>> neuroseg.demo_volume("demo", shape=(48, 96, 96)).truth
        PosixPath('demo/truth.zarr')
    """
    from neuroseg.views.synthetic import synthetic_volume

    voxels, place = _checked_shape(shape), Path(folder)
    _make_empty(place)
    made = synthetic_volume(voxels, _SEED)
    demo = DemoVolume(place / "volume.zarr", place / "truth.zarr")
    _write(demo, made.raw, made.labels, made.voxel_size_nm)
    return demo


def _checked_shape(shape: int | Sequence[int]) -> Triple:
    """Return the shape as three integers; raises InputError if an axis is too short."""
    voxels = triple((shape,) * 3 if isinstance(shape, int) else shape)
    if min(voxels) < LEAST_VOXELS:
        raise InputError(
            f"shape {voxels} has an axis of fewer than {LEAST_VOXELS} voxels",
            hint="use a larger one, such as (48, 96, 96)",
        )
    return voxels


def _make_empty(folder: Path) -> None:
    """Create `folder`, or delete an earlier demo in it; raises InputError if it contains anything else."""
    from neuroseg.storage.trees import remove_all

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder", hint="choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    mark, found = folder / MARK, list(folder.iterdir())
    if found and mark not in found:
        raise InputError(f"{folder} is not empty and not an earlier demo", hint="choose another folder")
    # The folder and its mark stay, so that an interrupted call can be repeated.
    mark.touch()
    for path in found:
        if path.is_symlink():
            path.unlink()
        elif path != mark:
            remove_all(path)


def _write(demo: DemoVolume, raw: NDArray[np.uint8], labels: NDArray[np.uint32], size_nm: Nanometres) -> None:
    """Write both volumes as OME-NGFF images of one level."""
    from neuroseg.storage.arrays import open_array
    from neuroseg.volumes.volume import create_volume

    for path, array, is_labels in ((demo.volume, raw, False), (demo.truth, labels.astype(np.uint64), True)):
        create_volume(
            path,
            shape=array.shape,
            dtype=array.dtype.type,
            block=_BLOCK_VOXELS,
            voxel_size_nm=size_nm,
            labels=is_labels,
        )
        open_array(path / "0", writable=True)[:] = array
