"""Import of a section stack, an HDF5 dataset or a zarr array into a sharded OME-NGFF volume, box by box.

Raw becomes uint8, labels uint32 or uint64. A volume gets its name only when it is complete.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres, Triple, slices, triple, whole
from neuroseg.storage.arrays import open_array
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.foreign import refuse_foreign
from neuroseg.volumes.input_checks import require_label_values, require_raw
from neuroseg.volumes.partial import partial_folder
from neuroseg.volumes.plausible import require_plausible_voxel_size
from neuroseg.volumes.scaling import inverted, scaled
from neuroseg.volumes.selection import WHOLE_FILE, Selection
from neuroseg.volumes.stacks import SectionStack, is_stack, open_stack
from neuroseg.volumes.volume import Volume, check_voxel_size, create_volume, require_voxel_size

# Source and converted voxels of one box. zarr needs about the same memory again while it compresses them.
_BOX_BYTES = 128 * 2**20
_CONVERTED_PART_VOXELS = 2**20
_CHUNK_VOXELS = 64
_SHARD_EDGE_VOXELS = 256
_THIN_SHARD_EDGE_VOXELS = 512
_OTHER_FORMATS = (
    ".h5", ".hdf5", ".hdf", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".npy", ".npz", ".n5", ".nii", ".gz", ".mrc",
    ".nrrd", ".raw", ".zip", ".neuroseg",
)  # fmt: skip
_ACCEPTED = "bool, uint8, uint16, int16 and float (raw), 32- and 64-bit integers (labels)"


@dataclass(frozen=True)
class ImportedVolume:
    """The result of an import: a complete volume, the time it took, and its section files in order."""

    path: Path
    shape: Triple
    dtype: np.dtype[Any]
    voxel_size_nm: Nanometres
    offset_nm: Nanometres
    seconds: float
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Conversion:
    """The conversion of voxels: to `dtype`, and scaled from `value_range` to 0..255 unless that is None."""

    dtype: type[np.generic]
    labels: bool
    value_range: tuple[float, float] | None = None

    def apply(self, values: NDArray[Any], roi: Roi) -> NDArray[Any]:
        """Return the converted voxels of region `roi`. Raises InputError that names the first NaN or negative label."""
        converted = np.empty(values.size, self.dtype)
        flat = values.reshape(-1)
        for start in range(0, flat.size, _CONVERTED_PART_VOXELS):
            part = flat[start : start + _CONVERTED_PART_VOXELS]
            wrong = _first_unusable(part, labels=self.labels)
            if wrong is not None:
                place = np.add(np.unravel_index(start + wrong, values.shape), roi.begin).tolist()
                expected = "labels of 0 or more" if self.labels else "a number"
                raise InputError(
                    f"voxel {place} (z, y, x) is {part[wrong]}, expected {expected}",
                    hint="replace it in the source, for example by 0",
                )
            converted[start : start + part.size] = part if self.value_range is None else scaled(part, self.value_range)
        return converted.reshape(values.shape)


def _first_unusable(part: NDArray[Any], *, labels: bool) -> int | None:
    """Return the index of the first NaN or negative label, or None."""
    if part.dtype.kind == "f":
        wrong = np.isnan(part)
    elif part.dtype.kind == "i" and labels:
        wrong = part < 0
    else:
        return None
    return int(wrong.argmax()) if wrong.any() else None


def import_volume(
    sources: Sequence[str],
    output: Path,
    *,
    voxel_size_nm: Nanometres | None,
    value_range: tuple[float, float] | None,
    invert: bool = False,
    level: int = 0,
    selection: Selection = WHOLE_FILE,
    order: str | None = None,
    block: Triple | None = None,
    labels: bool = False,
    force: bool = False,
    progress: Callable[[int, int], None] | None,
) -> ImportedVolume:
    """Write an OME-NGFF volume of the sources' shape to `output`, in shards of `block`, and return its description.

    `sources` is a section stack (a folder, files, or a multi-page TIFF), one `file.h5:dataset`, or one zarr path.
    Integers of 32 and 64 bits are labels and keep their width. With `labels`, smaller integers are labels.
    Memory stays near 256 MB if one section and one shard fit in it. The last shards at a border are clipped.
    `selection` chooses axes, channel, time point and series; `order` is the order of section files (section_order.py).
    `progress(done_voxels, total_voxels)` is called after each box. After any error no file remains.

    Raises InputError if `output` exists, if the sources have no voxel size or an unsupported dtype, if they are float
    without `value_range`, and if they contain a NaN or a negative label. Unless `force`, raises InputError if a sample
    shows that raw contains labels whose ids would be lost, or that too few grey levels would remain.
    """
    started = time.monotonic()
    _require_zarr_name(output)
    if os.path.lexists(output):
        raise InputError(f"{output} exists", hint="remove it, or choose another name with -o")
    if not output.absolute().parent.is_dir():
        raise InputError(
            f"folder {output.parent} does not exist", hint="create the folder, or choose another one with -o"
        )
    with _opened(sources, level, voxel_size_nm, selection, order) as source:
        size_nm = _checked_voxel_size(source)
        # Coarse levels of a pyramid may have voxels that are wider than thick.
        require_plausible_voxel_size(source.path, size_nm, force=force or level > 0)
        conversion = _conversion(source, value_range, labels=labels, invert=invert)
        _require_values(source, conversion, chosen=value_range is not None, force=force)
        block = block or default_block(source.shape)
        with partial_folder(output) as folder:
            partial = folder / output.name
            create_volume(
                partial, shape=source.shape, dtype=conversion.dtype, block=block,
                voxel_size_nm=size_nm, offset_nm=source.offset_nm, labels=conversion.labels,
                convention=source.zero, corner_nm=source.corner_nm,
            )  # fmt: skip
            _write(source, open_array(partial / "0", writable=True), conversion, block, folder, progress)
            partial.rename(output)
    seconds = time.monotonic() - started
    files = source.array.files if isinstance(source.array, SectionStack) else ()
    return ImportedVolume(output, source.shape, np.dtype(conversion.dtype), size_nm, source.offset_nm, seconds, files)


def default_block(shape: Triple) -> Triple:
    """Return the shard shape of a volume: (64, 256, 256), smaller along thin axes, and wider if z is thin.

    An axis below one chunk (64) is one chunk. Other axes are a multiple of 64, so that inner chunks are 64 wide.
    """
    edge = _SHARD_EDGE_VOXELS if shape[0] > _CHUNK_VOXELS // 2 else _THIN_SHARD_EDGE_VOXELS
    return triple([_shard(size, most) for size, most in zip(shape, (_CHUNK_VOXELS, edge, edge), strict=True)])


def _shard(size: int, most: int) -> int:
    return size if size < _CHUNK_VOXELS else min(most, -(-size // _CHUNK_VOXELS) * _CHUNK_VOXELS)


@contextmanager
def _opened(
    sources: Sequence[str], level: int, voxel_size_nm: Nanometres | None, selection: Selection, order: str | None
) -> Iterator[Volume]:
    """Yield the sources as one volume and close its files afterwards."""
    for source in sources:
        refuse_foreign(source, stacks=True)
    if is_stack(sources):
        if level != 0:
            raise InputError(f"a section stack has one level (0), found --level {level}", hint="omit --level")
        stack = open_stack(sources, selection, order)
        try:
            yield Volume(
                stack.name, stack, voxel_size_nm or stack.voxel_size_nm(), offset_nm=(0.0, 0.0, 0.0), placed=False
            )
        finally:
            stack.close()
        return
    if order is not None:
        raise InputError(f"{sources[0]} is not a list of section files, found --order {order}", hint="omit --order")
    volume = open_any(sources[0], level=level, voxel_size_nm=voxel_size_nm, selection=selection)
    try:
        yield volume
    finally:
        if hasattr(volume.array, "file"):
            volume.array.file.close()


def _checked_voxel_size(source: Volume) -> Nanometres:
    size = require_voxel_size(source)
    if min(source.shape) == 0:
        raise InputError(f"{source.path} is empty: its shape is {source.shape}")
    check_voxel_size(source.path, size)
    return size


def _require_zarr_name(output: Path) -> None:
    """Raise InputError for a name with the suffix of another format: import writes a zarr."""
    if output.suffix.lower() in _OTHER_FORMATS:
        raise InputError(
            f"{output} has the suffix of another format, expected a zarr",
            hint=f"use -o {output.stem.removesuffix('.zarr')}.zarr",
        )


def _require_values(source: Volume, conversion: _Conversion, *, chosen: bool, force: bool) -> None:
    """Raise InputError when a sample shows that the conversion cannot be meant (input_checks.py)."""
    if conversion.labels:
        require_label_values(source, force=force, score=False)
    elif source.dtype.kind != "b":
        require_raw(source, conversion.value_range, chosen=chosen, force=force)


def _conversion(
    source: Volume, value_range: tuple[float, float] | None, *, labels: bool, invert: bool = False
) -> _Conversion:
    """Return the conversion of the source's voxels to uint8 or labels, inverted if `invert`."""
    conversion = _without_inversion(source, value_range, labels=labels)
    if not invert:
        return conversion
    if conversion.labels or source.dtype.kind == "b":
        raise InputError(f"{source.path} contains labels or a mask, and --invert is only for raw", hint="omit --invert")
    return replace(conversion, value_range=inverted(conversion.value_range))


def _without_inversion(source: Volume, value_range: tuple[float, float] | None, *, labels: bool) -> _Conversion:
    """Return the conversion of the source's voxels to uint8 or labels. Raises InputError for unsupported dtypes."""
    kind, size = source.dtype.kind, source.dtype.itemsize
    found = f"{source.path} has voxels of type {source.dtype}"
    if value_range is not None and not 0 < abs(value_range[1] - value_range[0]) < float("inf"):
        raise InputError(
            f"--range {value_range[0]:g} {value_range[1]:g} is empty or infinite",
            hint="give two values: --range LOW HIGH",
        )
    if labels and kind not in "bui":
        raise InputError(
            f"{found}, expected whole numbers as labels",
            hint="round the values in the source, or omit --labels to import raw",
        )
    is_label = labels or (kind in "ui" and size > 2)
    if value_range is not None and (is_label or kind == "b"):
        raise InputError(f"{found}, and --range is only for raw", hint="omit --range")
    if is_label:
        return _Conversion(np.uint64 if size == 8 else np.uint32, labels=True)
    if kind == "b" or (kind == "u" and size == 1):
        return _Conversion(np.uint8, False, value_range)
    if kind == "u":
        return _Conversion(np.uint8, False, value_range or (0, 2**16 - 1))
    if kind != "f" and (kind != "i" or size != 2):
        raise InputError(f"{found}, expected {_ACCEPTED}", hint="convert the source to one of these types")
    if value_range is None:
        raise InputError(
            f"{found} and needs a range", hint="give the values that become black (0) and white (255): --range LOW HIGH"
        )
    return _Conversion(np.uint8, False, value_range)


def _write(
    source: Volume,
    target: Any,
    conversion: _Conversion,
    block: Triple,
    folder: Path,
    progress: Callable[[int, int], None] | None,
) -> None:
    voxel_bytes = source.dtype.itemsize + np.dtype(conversion.dtype).itemsize
    box = box_shape(source.shape, block, _BOX_BYTES // voxel_bytes)
    done = 0
    for roi, values in _boxes_with_voxels(source, box, folder):
        target[slices(roi)] = conversion.apply(values, roi)
        done += values.size
        if progress is not None:
            progress(done, whole(source.shape).size)


def box_shape(shape: Triple, block: Triple, most_voxels: int) -> Triple:
    """Return the box to read in one step: one shard deep, and as wide as fits `most_voxels` in whole shards, x first.

    At least one shard.
    """
    x = _shards_that_fit(shape[2], block[2], most_voxels // (block[0] * block[1]))
    y = _shards_that_fit(shape[1], block[1], most_voxels // (block[0] * x))
    return (block[0], y, x)


def _shards_that_fit(size: int, step: int, most: int) -> int:
    return max(1, min(-(-size // step), most // step)) * step


def _boxes_with_voxels(source: Volume, box: Triple, folder: Path) -> Iterator[tuple[Roi, NDArray[Any]]]:
    """Yield boxes that tile the source, with their voxels. Each section of a stack is decoded only once."""
    depth, height, width = source.shape
    for z in range(0, depth, box[0]):
        slab = Roi((z, 0, 0), (box[0], height, width)).intersect(source.roi)
        is_wide = box[1] < height or box[2] < width
        reader = _on_disk(source, slab, folder) if is_wide and isinstance(source.array, SectionStack) else source.read
        for y in range(0, height, box[1]):
            for x in range(0, width, box[2]):
                roi = Roi((z, y, x), box).intersect(slab)
                yield roi, reader(roi)


def _on_disk(source: Volume, slab: Roi, folder: Path) -> Callable[[Roi], NDArray[Any]]:
    """Return a function that reads boxes of the slab's depth. Decodes its sections into a file in `folder`."""
    path = folder / "slab"
    with path.open("wb") as file:
        for z in range(slab.begin[0], slab.end[0]):
            source.array.section(z).tofile(file)
    height, width = source.shape[1:]

    # Plain reads: the pages of a memory map would count as memory of this process.
    def read(roi: Roi) -> NDArray[Any]:
        box = np.empty(tuple(roi.shape), source.dtype)
        _, rows, columns = slices(roi)
        for z in range(slab.shape[0]):
            first = (z * height + rows.start) * width
            strip = np.fromfile(path, source.dtype, roi.shape[1] * width, offset=first * source.dtype.itemsize)
            box[z] = strip.reshape(-1, width)[:, columns]
        return box

    return read
