"""Section stacks: TIFF or PNG files, one per section, or one multi-page TIFF, read as an array (z, y, x).

Opening a stack reads only headers. Pixels are decoded on demand, one section at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres, Triple
from neuroseg.volumes.png_sections import png_header, read_png
from neuroseg.volumes.section_order import sections_in_order
from neuroseg.volumes.selection import WHOLE_FILE, Selection
from neuroseg.volumes.tiff_pages import Header, common_header
from neuroseg.volumes.tiff_series import BROKEN as TIFF_BROKEN
from neuroseg.volumes.tiff_stacks import sections_of_many, sections_of_one
from neuroseg.volumes.tiff_voxel_size import UNKNOWN, PartialSize, whole_size

_KINDS = {".tif": "TIFF", ".tiff": "TIFF", ".btf": "TIFF", ".tf8": "TIFF", ".png": "PNG"}
# Errors of decoders on broken files. Pillow raises SyntaxError for a wrong header; a wrong size may exhaust the memory.
_BROKEN = (*TIFF_BROKEN, SyntaxError, MemoryError)


class SectionStack:
    """An array (z, y, x) that decodes whole sections when a box is read."""

    def __init__(
        self,
        name: str,
        shape: Triple,
        dtype: np.dtype[Any],
        read_section: Callable[[int], NDArray[Any]],
        close: Callable[[], None] = lambda: None,
        stated_size_nm: PartialSize = UNKNOWN,
        files: Sequence[Path] = (),
    ) -> None:
        self.name = name
        self.shape = shape
        self.dtype = dtype
        self.close = close
        self.files = tuple(path.name for path in files)  # in the order of the sections
        self._stated_size_nm = stated_size_nm
        self._read_section = read_section

    def voxel_size_nm(self) -> Nanometres | None:
        """Return the voxel size that the files state, or None. Raises InputError if they state only some axes."""
        return whole_size(self._stated_size_nm, self.name)

    def section(self, z: int) -> NDArray[Any]:
        """Return section `z` as (y, x). Raises InputError if it cannot be decoded or differs from its header."""
        try:
            pixels = self._read_section(z)
        except _BROKEN as error:
            raise InputError(f"cannot decode section {z} of {self.name}: {error}") from error
        if pixels.shape != self.shape[1:]:
            raise InputError(f"section {z} of {self.name} decodes to {pixels.shape}, expected {self.shape[1:]}")
        return pixels.astype(self.dtype, copy=False)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Return a box (z, y, x)."""
        sections, rows, columns = (range(*part.indices(size)) for part, size in zip(key, self.shape, strict=True))
        box = np.empty((len(sections), len(rows), len(columns)), self.dtype)
        for index, z in enumerate(sections):
            box[index] = self.section(z)[key[1], key[2]]
        return box


def is_stack(sources: Sequence[str]) -> bool:
    """Return whether the sources are image files, or a folder that is not a zarr array or group."""
    if len(sources) != 1:
        return True
    path = Path(sources[0])
    if path.is_dir():
        return not any((path / marker).exists() for marker in ("zarr.json", ".zarray", ".zgroup", ".zattrs"))
    return path.suffix.lower() in _KINDS


def open_stack(sources: Sequence[str], selection: Selection = WHOLE_FILE, order: str | None = None) -> SectionStack:
    """Return the stack in a folder, in a list of section files, or in one multi-page TIFF, in section order.

    Only headers are read. Raises InputError if there is no stack or more than one, and if a section is missing, is not
    greyscale, or differs from the first in size or dtype.
    """
    paths = _listed(sources)
    _require_files_to_order(sources, paths, order)
    paths = sections_in_order(paths, order)
    name = sources[0] if len(sources) == 1 else str(paths[0].parent)
    return (_stack_of_tiffs if _kind(paths[0]) == "TIFF" else _stack_of_pngs)(paths, name, selection)


def _kind(path: Path) -> str | None:
    return _KINDS.get(path.suffix.lower())


def _listed(sources: Sequence[str]) -> list[Path]:
    """Return the section files in the sources. Raises InputError unless all are TIFF or all are PNG."""
    paths = [Path(source) for source in sources]
    if len(paths) == 1 and paths[0].is_dir():
        inside = sorted(paths[0].iterdir())
        paths = [path for path in inside if not path.name.startswith(".") and path.is_file() and _kind(path)]
    else:
        for path in paths:
            if not path.is_file() or not _kind(path):
                found = "is a folder" if path.is_dir() else "is another file" if path.exists() else "does not exist"
                raise InputError(
                    f"{path} {found}, expected TIFF or PNG files, one per section, or one folder of them",
                    hint="give the section files, as in FOLDER/*.tif, or the folder",
                )
    kinds = Counter(_kind(path) for path in paths)
    if not kinds:
        raise InputError(
            f"{' '.join(sources) or 'the list of files'} is neither a zarr array or group nor TIFF or PNG sections"
        )
    if len(kinds) > 1:
        counted = " and ".join(f"{count} {kind} files" for kind, count in sorted(kinds.items(), key=str))
        raise InputError(
            f"{sources[0]} contains {counted}, expected one kind", hint="give the files of one kind, as in FOLDER/*.tif"
        )
    return paths


def _require_files_to_order(sources: Sequence[str], paths: Sequence[Path], order: str | None) -> None:
    if order is not None and len(paths) == 1:
        raise InputError(f"{paths[0]} is one file, but --order {order} needs several", hint="omit --order")
    if order == "given" and len(sources) == 1:
        raise InputError(
            f"{sources[0]} is a folder, but --order given needs a list of files", hint="list its files in section order"
        )


def _stack_of_pngs(paths: Sequence[Path], name: str, selection: Selection) -> SectionStack:
    if selection != WHOLE_FILE:
        raise InputError(
            f"{name} is a stack of PNG files, which have one channel and no other axes",
            hint="omit --axes, --channel, --time and --series",
        )
    header = common_header((path.name, _png_header(path)) for path in paths)
    shape: Triple = (len(paths), header.shape[0], header.shape[1])
    return SectionStack(name, shape, header.dtype, lambda z: read_png(paths[z]), files=paths)


def _png_header(path: Path) -> Header:
    try:
        return png_header(path)
    except _BROKEN as error:
        raise InputError(f"{path} is not a readable PNG file: {error}") from error


def _stack_of_tiffs(paths: Sequence[Path], name: str, selection: Selection) -> SectionStack:
    found = sections_of_one(paths[0], selection) if len(paths) == 1 else sections_of_many(paths, selection)
    return SectionStack(name, found.shape, found.dtype, found.read, found.close, found.voxel_size_nm, paths)
