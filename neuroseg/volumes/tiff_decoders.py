"""Decoders of TIFF pages. Only combinations with a test in tests/volumes/test_tiff_decoders.py are read.

With imagecodecs, tifffile decodes all of them. Without it, tifffile decodes a few, and Pillow decodes LZW.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile
from tifffile import COMPRESSION, TiffPage

from neuroseg.errors import InputError

try:
    import imagecodecs
except ImportError:
    imagecodecs = None  # type: ignore[assignment]

_INSTALL = "install it: pip install 'neuroseg[codecs]'"
_SAVE_AGAIN = "save it without compression, in Fiji (File > Save As > Tiff) or with `tiffcp -c none OLD.tif NEW.tif`"
_NO_COMPRESSION = 1
_LZW = 5
_NO_PREDICTOR, _DIFFERENCES, _FLOATING_POINT = 1, 2, 3
# Codecs of bytes: any dtype in both byte orders. tifffile decodes _WITHOUT_IMAGECODECS itself.
_OF_BYTES = {
    _NO_COMPRESSION: None, _LZW: "LZW", 8: "DEFLATE", 32946: "DEFLATE", 32773: "PACKBITS", 34925: "LZMA",
    50000: "ZSTD", 34926: "ZSTD",
}  # fmt: skip
_WITHOUT_IMAGECODECS = {_NO_COMPRESSION, 8, 32946, 32773, 34925}
# Codecs of images: one greyscale plane, without predictor.
_OF_IMAGES = {
    7: ("JPEG8", {"uint8"}),
    34712: ("JPEG2K", {"uint8", "uint16"}),
    34887: ("LERC", {"int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"}),
    34933: ("PNG", {"uint8", "uint16"}),
    34934: ("JPEGXR", {"uint8", "uint16"}),
    22610: ("JPEGXR", {"uint8", "uint16"}),
    50002: ("JPEGXL", {"uint8", "uint16"}),
    52546: ("JPEGXL", {"uint8", "uint16"}),
}
_BY_PILLOW = {"bool": "<>", "uint8": "<>", "uint16": "<>", "int32": "<", "float32": "<"}


class _Storage(NamedTuple):
    """The properties of a page's storage that decoders depend on."""

    compression: int
    dtype: np.dtype[Any]
    byteorder: str
    bits: int
    predictor: int
    planes: int  # samples times depth in one page
    reversed_bits: bool

    @property
    def is_whole_bytes(self) -> bool:
        return self.bits == 8 * self.dtype.itemsize

    @property
    def is_known_depth(self) -> bool:
        return self.is_whole_bytes or (self.dtype == bool and self.bits == 1)

    @property
    def is_known_predictor(self) -> bool:
        if self.predictor == _DIFFERENCES:
            return self.dtype.kind in "ui" and self.dtype.itemsize <= 4
        return self.predictor == _NO_PREDICTOR or (self.predictor == _FLOATING_POINT and self.dtype.kind == "f")

    def __str__(self) -> str:
        order = {"<": "little-endian ", ">": "big-endian "}[self.byteorder] if self.dtype.itemsize > 1 else ""
        depth = "" if self.is_known_depth else f" of {self.bits} bits"
        predictor = f" with predictor {self.predictor}" if self.predictor != _NO_PREDICTOR else ""
        bits = ", bits in reverse order" if self.reversed_bits else ""
        return f"{_name(self.compression)} as {order}{self.dtype}{depth}{predictor}{bits}"


def require_decoder(page: TiffPage, name: str) -> None:
    """Raise InputError with the page's compression and dtype unless a tested decoder is installed."""
    stored = _storage(page)
    if stored is None or not _is_tested(stored):
        described = stored or f"{_name(page.compression)} with samples of {page.bitspersample} bits"
        raise InputError(f"{name} is {described}, which no tested decoder reads", hint=_SAVE_AGAIN)
    if not _is_installed(stored.compression) and not _is_read_without_imagecodecs(stored):
        raise InputError(f"{name} is {stored}, which needs the package imagecodecs", hint=_INSTALL)


def decoded(page: TiffPage, path: Path, index: int) -> NDArray[Any]:
    """Return the pixels of a page that `require_decoder` accepts, in the shape and dtype of its header."""
    if page.compression != _LZW or _is_installed(_LZW):
        return np.asarray(page.asarray())
    with TiffImageFile(path) as image:
        image.seek(index)
        return np.asarray(image).astype(page.dtype)


def _storage(page: TiffPage) -> _Storage | None:
    """Return the storage of a page. None if its samples have different sizes, or an unknown type."""
    if isinstance(page.bitspersample, tuple) or page.dtype is None:
        return None
    return _Storage(
        int(page.compression), np.dtype(page.dtype), page.parent.byteorder, page.bitspersample, int(page.predictor),
        page.samplesperpixel * page.imagedepth, page.fillorder != 1,
    )  # fmt: skip


def _is_tested(stored: _Storage) -> bool:
    if stored.compression in _OF_IMAGES:
        _, dtypes = _OF_IMAGES[stored.compression]
        is_plain = stored.planes == 1 and stored.predictor == _NO_PREDICTOR and not stored.reversed_bits
        is_native = stored.byteorder == "<" or stored.dtype.itemsize == 1
        return is_plain and is_native and stored.is_whole_bytes and str(stored.dtype) in dtypes
    if stored.compression not in _OF_BYTES or not stored.is_known_predictor or stored.dtype.kind not in "buif":
        return False
    if stored.reversed_bits:
        return stored.compression == _NO_COMPRESSION and stored.is_known_depth and stored.predictor == _NO_PREDICTOR
    # Programs disagree on the byte order of 24 bits, so whole bytes do not count as packed bits.
    is_packed = stored.dtype.kind == "u" and stored.bits % 8 and stored.compression == _NO_COMPRESSION
    return stored.is_known_depth or (bool(is_packed) and stored.planes == 1)


def _is_installed(compression: int) -> bool:
    """Return whether imagecodecs is installed and has the codec."""
    codec = _OF_BYTES.get(compression) or _OF_IMAGES.get(compression, (None,))[0]
    return imagecodecs is not None and (codec is None or bool(getattr(imagecodecs, codec).available))


def _is_read_without_imagecodecs(stored: _Storage) -> bool:
    if stored.reversed_bits or not stored.is_known_depth:
        return False
    if stored.compression == _LZW:
        is_byte_order = stored.byteorder in _BY_PILLOW.get(str(stored.dtype), "")
        return is_byte_order and stored.planes == 1 and stored.predictor != _FLOATING_POINT
    return stored.compression in _WITHOUT_IMAGECODECS and stored.predictor != _FLOATING_POINT


def _name(compression: int) -> str:
    if compression == _NO_COMPRESSION:
        return "stored"
    try:
        return f"compressed with {COMPRESSION(compression).name}"
    except ValueError:
        return f"compressed with method {compression}"
