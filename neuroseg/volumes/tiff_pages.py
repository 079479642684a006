"""Pages of TIFF files: headers, checked before anything is decoded, and pixels as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffPage

from neuroseg.errors import InputError
from neuroseg.volumes.tiff_decoders import decoded, require_decoder
from neuroseg.volumes.tiff_series import BROKEN, PageAt

_SAMPLES_OF_CHANNELS = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB)


class Header(NamedTuple):
    """The dtype of a section, and the shape of its page without axes of size one. All sections of a stack share it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.shape))} {self.dtype}"


class TiffPages:
    """Opens TIFF files and returns their pages. The last file stays open until `close`."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._tiff: TiffFile | None = None
        self._deep: tuple[PageAt, NDArray[Any]] | None = None

    def page(self, at: PageAt) -> TiffPage:
        """Return the page with its own header."""
        if self._tiff is None or self._path != at.path:
            self.close()
            # Never access `series` of this file: tifffile would then shorten the headers of its pages.
            self._tiff, self._path = TiffFile(at.path), at.path
        return self._tiff.pages[at.page]

    def header(self, at: PageAt, name: str, *, of_channel: bool) -> Header:
        """Return the header of a page. Raises InputError if it is not greyscale, or if no tested decoder is installed.

        `of_channel`: the user chose one of several channels.
        """
        try:
            return _checked_header(self.page(at), name, of_channel=of_channel)
        except BROKEN as error:
            raise InputError(f"{at.path} is not a readable TIFF file ({name}): {error}") from error

    def read(self, at: PageAt) -> NDArray[Any]:
        """Return the pixels of a page in the shape of its header, in the byte order of this machine."""
        page = self.page(at)
        if at.bare is None and len(page.shape) == 2:
            return decoded(page, at.path, at.page)
        if at.bare is None:
            return self._read_deep(page, at)
        stored = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
        page.parent.filehandle.seek(page.dataoffsets[0] + at.bare * page.nbytes)
        return np.frombuffer(page.parent.filehandle.read(page.nbytes), stored).reshape(page.shape)

    def _read_deep(self, page: TiffPage, at: PageAt) -> NDArray[Any]:
        """Return a page that may contain several sections. It is kept for its next section."""
        if self._deep is None or self._deep[0] != at:
            self._deep = None
            self._deep = (at, decoded(page, at.path, at.page))
        return self._deep[1]

    def close(self) -> None:
        """Close the open file, if any."""
        if self._tiff is not None:
            self._tiff.close()
        self._tiff = self._path = self._deep = None


def _checked_header(page: TiffPage, name: str, *, of_channel: bool) -> Header:
    is_single = page.samplesperpixel == 1 and page.photometric == PHOTOMETRIC.MINISBLACK
    is_chosen = of_channel and page.samplesperpixel > 1 and page.photometric in _SAMPLES_OF_CHANNELS
    if not is_single and not is_chosen:
        if page.samplesperpixel == 1 and page.photometric == PHOTOMETRIC.MINISWHITE:
            raise InputError(
                f"{name} stores white as 0, expected black as 0",
                hint="save it again, for example with Fiji: Image > Lookup Tables > Grays, then File > Save As > Tiff",
            )
        # The numbers of a palette are not brightness either.
        raise not_greyscale(name, f"{page.samplesperpixel} channels, {PHOTOMETRIC(page.photometric).name}")
    if page.dtype is None:
        raise InputError(
            f"{name} has values of {page.bitspersample} bits of an unknown type",
            hint="convert it, for example with Fiji: Image > Type > 8-bit",
        )
    require_decoder(page, name)
    _require_all_bytes(page, name)
    return Header(tuple(page.shape), np.dtype(page.dtype))


def _require_all_bytes(page: TiffPage, name: str) -> None:
    """Raise InputError if the file ends before the pixels of an uncompressed page."""
    if page.compression != COMPRESSION.NONE:
        return
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    size = page.parent.filehandle.size
    if max(ends, default=0) > size:
        raise InputError(f"{name} is cut off: the file has {size} bytes, expected {max(ends)}", hint="copy it again")


def common_header(headers: Iterable[tuple[str, Header]]) -> Header:
    """Return the header that all sections share. Raises InputError that names the first section that differs."""
    (first_name, expected), *others = headers
    for name, found in others:
        if found != expected:
            raise InputError(
                f"section {name} is {found} (y, x), expected {expected} as in {first_name}",
                hint="pad, crop or convert the section; if one TIFF has pages of several sizes, choose with --series N",
            )
    return expected


def not_greyscale(name: str, found: str) -> InputError:
    """Return the error for colours. The hint explains how to choose or create one channel."""
    return InputError(
        f"{name} is not greyscale, found {found}, expected one channel of brightness",
        hint="for a TIFF, choose a channel with --channel N; for raw, convert it with Fiji (Image > Type > 8-bit) or "
        "`magick mogrify -colorspace Gray -alpha off`; for labels in colours, export their ids as numbers",
    )
