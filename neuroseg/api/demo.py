"""A folder's name -> a synthetic volume with its true labels on disk: something to try the functions on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres, Triple, triple

# Smaller volumes contain hardly one neurite.
LEAST_VOXELS = 48
# Written into the folder, so that only a demo's own folder is ever emptied.
_MARK = ".neuroseg-demo"
_SEED = 7
_BLOCK_VOXELS = (64, 64, 64)


class DemoVolume(NamedTuple):
    """The paths of a synthetic volume: `volume` is the zarr of raw values, `truth` the zarr of true labels."""

    volume: Path
    truth: Path


def demo_volume(folder: str | Path, *, shape: int | Sequence[int] = (128, 128, 192)) -> DemoVolume:
    """Return the paths of a synthetic EM volume and its true labels, written into `folder`.

    `shape` is in voxels, N or (z, y, x), at least 48 each; voxels are 10 nm. The raw values are uint8, the labels
    uint64, one id per neurite. The same shape gives the same voxels. An earlier demo in `folder` is removed, with its
    results.

    Raises:
        InputError: `shape` is too small, or `folder` is a file, or contains other files than an earlier demo.

    >>> neuroseg.demo_volume("demo", shape=(48, 96, 96)).truth
    PosixPath('demo/truth.zarr')
    """
    from neuroseg.views.synthetic import synthetic_volume

    voxels, place = _checked_shape(shape), Path(folder)
    _empty(place)
    made = synthetic_volume(voxels, _SEED)
    demo = DemoVolume(place / "volume.zarr", place / "truth.zarr")
    _write(demo, made.raw, made.labels, made.voxel_size_nm)
    return demo


def _checked_shape(shape: int | Sequence[int]) -> Triple:
    """Return the shape as three integers; raises InputError where a side is too short."""
    voxels = triple((shape,) * 3 if isinstance(shape, int) else shape)
    if min(voxels) < LEAST_VOXELS:
        raise InputError(f"shape {voxels} has a side below {LEAST_VOXELS} voxels; use for example (48, 96, 96)")
    return voxels


def _empty(folder: Path) -> None:
    """Make `folder`, or remove what an earlier demo left in it; raises InputError where anything else is there."""
    from neuroseg.storage.trees import remove_all

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    mark, found = folder / _MARK, list(folder.iterdir())
    if found and mark not in found:
        raise InputError(f"{folder} is not empty and not an earlier demo; choose another folder")
    # The folder itself and its mark stay: what is interrupted here can be called again.
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
