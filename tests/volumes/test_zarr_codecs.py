"""Codecs of zarr arrays that are not there are named when the array is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from neuroseg.errors import InputError
from neuroseg.volumes.zarr_nodes import open_node

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")


def array_with(path: Path, zarr_format: Any, key: str, value: Any) -> str:
    """Write an array and replace an entry of its metadata."""
    array = zarr.create_array(str(path), shape=(2, 4, 4), chunks=(1, 4, 4), dtype="uint8", zarr_format=zarr_format)
    array[:] = 1
    file = path / ("zarr.json" if zarr_format == 3 else ".zarray")
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    return str(path)


def sharded(codec: str) -> list[dict[str, Any]]:
    """Return the codecs of a sharded array with an inner codec."""
    inner = [{"name": "bytes"}, {"name": codec, "configuration": {}}]
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    return [
        {
            "name": "sharding_indexed",
            "configuration": {"chunk_shape": [1, 2, 2], "codecs": inner, "index_codecs": index},
        }
    ]


@pytest.mark.parametrize(
    ("zarr_format", "key", "value", "name"),
    [
        (2, "compressor", {"id": "imagecodecs_jpeg2k"}, "imagecodecs_jpeg2k"),
        (2, "compressor", {"id": "pcodec"}, "pcodec"),
        (3, "codecs", [{"name": "bytes"}, {"name": "jpegls", "configuration": {}}], "jpegls"),
        (3, "codecs", [{"name": "numcodecs.zfpy", "configuration": {}}], "zfpy"),
        (3, "codecs", sharded("jpegls"), "jpegls"),
    ],
)
def test_a_missing_codec_is_named(tmp_path: Path, zarr_format: int, key: str, value: Any, name: str) -> None:
    path = array_with(tmp_path / "a.zarr", zarr_format, key, value)
    with pytest.raises(InputError, match=rf"a\.zarr is stored with the codec {name}, which no installed library"):
        open_node(path)


@pytest.mark.parametrize(
    ("key", "value"), [("compressor", {"id": "pickle"}), ("filters", [{"id": "pickle"}]), ("dtype", "|O")]
)
def test_a_codec_that_unpickles_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    path = array_with(tmp_path / "a.zarr", 2, key, value)
    with pytest.raises(InputError, match=r"a\.zarr is not a zarr array or group"):
        open_node(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_known_codecs_are_read(tmp_path: Path, zarr_format: Any) -> None:
    values = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=values.shape, dtype="uint8", zarr_format=zarr_format)
    array[:] = values
    assert np.array_equal(open_node(tmp_path / "a.zarr")[:], values)
