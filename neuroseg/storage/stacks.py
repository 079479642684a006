"""Section stacks: TIFF or PNG files, one per section, or one multi-page TIFF, read as an array (z, y, x).

Headers are read when a stack is opened, pixels only when they are asked for, one section at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from tifffile import PHOTOMETRIC, TiffFile, TiffPage

from neuroseg.errors import InputError
from neuroseg.geometry import Triple
from neuroseg.storage.section_order import sections_in_order
from neuroseg.storage.selection import WHOLE_FILE, Selection

_KINDS = {".tif": "TIFF", ".tiff": "TIFF", ".png": "PNG"}
_PNG_TYPES = {"1": "bool", "L": "uint8", "I;16": "uint16", "I": "uint16"}
# What the decoders raise on broken files; Pillow uses SyntaxError for a wrong header.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError)


class _Header(NamedTuple):
    """What every section of a stack must share."""

    rows: int
    columns: int
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.rows} x {self.columns} {self.dtype}"


class SectionStack:
    """An array (z, y, x) that decodes a section when a slice of it is read; a section is the least that is decoded."""

    def __init__(
        self,
        name: str,
        shape: Triple,
        dtype: np.dtype[Any],
        read_section: Callable[[int], NDArray[Any]],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.shape = shape
        self.dtype = dtype
        self.close = close
        self._read_section = read_section

    def section(self, z: int) -> NDArray[Any]:
        """Return section `z` as (y, x); raises InputError when it cannot be decoded or differs from its header."""
        try:
            pixels = self._read_section(z)
        except _BROKEN as error:
            raise InputError(f"section {z} of {self.name} cannot be decoded: {error}") from error
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

    Raises InputError when there is none or more than one, when a section is missing, is not greyscale, or differs from
    the first in size or dtype. Only headers are read.
    """
    paths = _listed(sources)
    _require_files_to_order(sources, paths, order)
    if len(paths) == 1 and _kind(paths[0]) == "TIFF":
        return _open_pages(paths[0])
    paths = sections_in_order(paths, order)
    header = _common_header((path.name, _file_header(path)) for path in paths)
    name = sources[0] if len(sources) == 1 else str(paths[0].parent)
    shape = (len(paths), header.rows, header.columns)
    return SectionStack(name, shape, header.dtype, lambda z: _read_file(paths[z]))


def _kind(path: Path) -> str | None:
    return _KINDS.get(path.suffix.lower())


def _listed(sources: Sequence[str]) -> list[Path]:
    """Return the files of the one kind that the sources hold."""
    paths = [Path(source) for source in sources]
    if len(paths) == 1 and paths[0].is_dir():
        inside = sorted(paths[0].iterdir())
        paths = [path for path in inside if not path.name.startswith(".") and path.is_file() and _kind(path)]
    else:
        for path in paths:
            if not path.is_file() or not _kind(path):
                found = "is a folder" if path.is_dir() else "is another file" if path.exists() else "does not exist"
                raise InputError(f"{path} {found}; expected TIFF or PNG files, one per section, or one folder of them")
    kinds = Counter(_kind(path) for path in paths)
    if not kinds:
        raise InputError(f"no zarr array or group, and no TIFF or PNG sections, in {' '.join(sources) or 'no sources'}")
    if len(kinds) > 1:
        counted = " and ".join(f"{count} {kind} files" for kind, count in sorted(kinds.items(), key=str))
        raise InputError(f"{sources[0]} holds two kinds of sections, {counted}; name the files of one, as in *.tif")
    return paths


def _require_files_to_order(sources: Sequence[str], paths: Sequence[Path], order: str | None) -> None:
    if order is not None and len(paths) == 1:
        raise InputError(f"{paths[0]} is one file; --order {order} is for several, so leave it out")
    if order == "given" and len(sources) == 1:
        raise InputError(f"{sources[0]} is a folder, which has no order; list its files in order for --order given")


def _common_header(headers: Iterable[tuple[str, _Header]]) -> _Header:
    """Return the header that all sections share; raises InputError naming the first that differs."""
    (first_name, expected), *others = headers
    for name, found in others:
        if found != expected:
            raise InputError(
                f"section {name} is {found} (y, x), expected {expected} as in {first_name}; "
                "all sections need one size and dtype: pad, crop or convert it"
            )
    return expected


def _file_header(path: Path) -> _Header:
    try:
        if _kind(path) == "PNG":
            return _png_header(path)
        with TiffFile(path) as tiff:
            if len(tiff.pages) != 1:
                raise InputError(
                    f"{path} has {len(tiff.pages)} pages; expected one section per file, or one multi-page TIFF alone"
                )
            return _page_header(str(path), tiff.pages[0])
    except _BROKEN as error:
        raise InputError(f"{path} is not a readable {_kind(path)} file: {error}") from error


def _png_header(path: Path) -> _Header:
    # The class itself, not Image.open, which refuses images beyond 179 million pixels; sections may be larger.
    with PngImageFile(path) as image:
        if image.mode not in _PNG_TYPES:
            raise _not_greyscale(str(path), f"mode {image.mode}")
        return _Header(image.height, image.width, np.dtype(_PNG_TYPES[image.mode]))


def _page_header(name: str, page: TiffPage) -> _Header:
    if page.samplesperpixel != 1 or page.photometric != PHOTOMETRIC.MINISBLACK:
        # White-is-zero and palettes too: their numbers are not brightness.
        raise _not_greyscale(name, f"{page.samplesperpixel} channels, {PHOTOMETRIC(page.photometric).name}")
    if len(page.shape) != 2 or page.dtype is None:
        raise InputError(f"{name} has pages of shape {page.shape} and type {page.dtype}; expected pages (y, x)")
    return _Header(page.shape[0], page.shape[1], np.dtype(page.dtype))


def _not_greyscale(name: str, found: str) -> InputError:
    return InputError(
        f"{name} is not greyscale (found {found}); expected one channel of brightness: convert the stack, for example "
        "with Fiji (Image > Type > 8-bit) or `magick mogrify -colorspace Gray -alpha off`; labels "
        "coded as colours would lose their ids so, export those as numbers"
    )


def _read_file(path: Path) -> NDArray[Any]:
    if _kind(path) == "TIFF":
        with TiffFile(path) as tiff:
            return _decoded(path, tiff.pages[0], 0)
    with PngImageFile(path) as image:
        return np.asarray(image)


def _decoded(path: Path, page: TiffPage, index: int) -> NDArray[Any]:
    """Return the pixels of a page. Pillow reads the compressions (LZW among them) that tifffile has no codec for."""
    try:
        return np.asarray(page.asarray())
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
    with TiffImageFile(path) as image:
        image.seek(index)
        return np.asarray(image)


def _open_pages(path: Path) -> SectionStack:
    """Return the pages of one TIFF as a stack; its file stays open until the stack is closed."""
    try:
        with ExitStack() as opened:
            tiff = opened.enter_context(TiffFile(path))
            pages = ((f"{z} of {path}", _page_header(str(path), page)) for z, page in enumerate(tiff.pages))
            header = _common_header(pages)
            count, virtual = len(tiff.pages), _bare_sections(tiff, header)
            close = opened.pop_all().close
    except _BROKEN as error:
        raise InputError(f"{path} is not a readable TIFF file: {error}") from error
    if virtual is None:
        shape = (count, header.rows, header.columns)
        return SectionStack(str(path), shape, header.dtype, lambda z: _decoded(path, tiff.pages[z], z), close)
    count, read_section = virtual
    return SectionStack(str(path), (count, header.rows, header.columns), header.dtype, read_section, close)


def _bare_sections(tiff: TiffFile, header: _Header) -> tuple[int, Callable[[int], NDArray[Any]]] | None:
    """Return number and reader of sections that follow the only page as bare pixels; None when there are none.

    ImageJ writes files beyond 4 GB so.
    """
    size = header.rows * header.columns
    series = tiff.series[0] if len(tiff.pages) == 1 else None
    if series is None or series.dataoffset is None or series.size <= size:
        return None
    stored = header.dtype.newbyteorder(tiff.byteorder)

    def read_section(z: int) -> NDArray[Any]:
        tiff.filehandle.seek(series.dataoffset + z * size * stored.itemsize)
        return np.frombuffer(tiff.filehandle.read(size * stored.itemsize), stored).reshape(header.rows, header.columns)

    return series.size // size, read_section
