"""Codecs of zarr arrays. If no installed library decodes one, opening the array is an error that names the codec."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numcodecs
import numcodecs.errors
import zarr

from neuroseg.errors import InputError

MISSING_CODEC = (numcodecs.errors.UnknownCodecError, zarr.errors.UnknownCodecError)


def require_codecs(node: Any, path: str) -> None:
    """Raise InputError unless all codecs of an array are installed. A group has none."""
    if not isinstance(node, zarr.Array):
        return
    for configuration in _configurations(node.metadata):
        try:
            numcodecs.get_codec(dict(configuration))
        except MISSING_CODEC as error:
            raise missing_codec(path, error) from error


def missing_codec(path: str, error: Exception) -> InputError:
    """Return the error that names a codec that zarr or numcodecs does not know."""
    named = re.search(r"'+([^']+)'+", str(error))
    codec = named[1] if named else str(error)
    return InputError(
        f"{path} is stored with the codec {codec}, which no installed library decodes",
        hint="install the package that provides it (for example pcodec or zfpy), or save the array with zstd",
    )


def _configurations(metadata: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the configurations of the codecs that numcodecs provides, including codecs inside shards."""
    if metadata.zarr_format == 2:
        for codec in (*(metadata.filters or ()), metadata.compressor):
            if isinstance(codec, numcodecs.abc.Codec):
                yield codec.get_config()
        return
    codecs = list(metadata.codecs)
    for codec in codecs:
        codecs += [*getattr(codec, "codecs", ()), *getattr(codec, "index_codecs", ())]
        if hasattr(codec, "codec_config"):
            yield codec.codec_config
