"""Decoders: every combination that is accepted gives the values that were written, with and without imagecodecs."""

from __future__ import annotations

import itertools
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.volumes.selection import Selection
from neuroseg.volumes.stacks import open_stack

DTYPES = [
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float32",
    "float64",
]
BYTE_CODECS = [None, "lzw", "zlib", "packbits", "lzma", "zstd"]
IMAGE_CODECS = {
    "jpeg2000": ["uint8", "uint16"], "png": ["uint8", "uint16"], "jpegxl": ["uint8", "uint16"],
    "jpegxr": ["uint8", "uint16"],
    "lerc": ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"],
}  # fmt: skip
LAYOUTS: dict[str, dict[str, Any]] = {"strip": {}, "strips": {"rowsperstrip": 7}, "tiles": {"tile": (16, 32)}}


def values_of(dtype: str, shape: tuple[int, ...] = (2, 33, 47)) -> NDArray[Any]:
    """Return random values over the whole range of a dtype, so that a swapped byte shows."""
    rng = np.random.default_rng(0)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype.startswith("float"):
        return ((rng.random(shape) - 0.5) * 1000).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def read(path: Path) -> NDArray[Any]:
    """Return a TIFF as neuroseg reads it."""
    stack = open_stack([str(path)])
    values = stack[:, :, :]
    stack.close()
    return values


def predictors(dtype: str) -> list[Any]:
    """Return the predictors that a dtype can be written with."""
    return [None] if dtype in ("bool", "uint64", "int64") else [None, True]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("codec", BYTE_CODECS)
def test_codecs_of_bytes_keep_every_dtype(tmp_path: Path, codec: str | None, dtype: str) -> None:
    values = values_of(dtype)
    for byteorder in "<>":
        for predictor in predictors(dtype) if codec else [None]:
            for name, layout in LAYOUTS.items():
                path = tmp_path / f"{name}.tif"
                tifffile.imwrite(
                    path, values, photometric="minisblack", compression=codec, byteorder=byteorder,
                    predictor=predictor, **layout,
                )  # fmt: skip
                found = read(path)
                assert found.dtype == np.dtype(dtype)
                assert np.array_equal(found, values), (byteorder, predictor, name)


@pytest.mark.parametrize(("codec", "dtype"), [(codec, dtype) for codec, all_ in IMAGE_CODECS.items() for dtype in all_])
def test_codecs_of_images_keep_their_dtypes(tmp_path: Path, codec: str, dtype: str) -> None:
    values = values_of(dtype)
    for name, layout in LAYOUTS.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, values, photometric="minisblack", compression=codec, **layout)
        assert np.array_equal(read(path), values), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_jpeg_equals_the_decoding_of_tifffile(tmp_path: Path, layout: str) -> None:
    smooth = np.add.outer(np.arange(33), np.arange(47)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "j.tif", smooth, photometric="minisblack", compression="jpeg", **LAYOUTS[layout])
    found = read(tmp_path / "j.tif")[0]
    assert np.array_equal(found, tifffile.imread(tmp_path / "j.tif"))
    assert np.abs(found.astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 7, 10, 12, 14, 20, 31])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_packed_bits_keep_their_values(tmp_path: Path, bits: int, byteorder: str) -> None:
    dtype = "uint8" if bits < 8 else "uint16" if bits < 16 else "uint32"
    values = values_of(dtype, (9, 47)) >> (np.iinfo(dtype).bits - bits)
    # TIFF packs from the highest bit on, whatever the byte order, and begins each row with a new byte.
    each_bit = values[..., None] >> np.arange(bits - 1, -1, -1, dtype=dtype) & 1
    packed = np.packbits(each_bit.reshape(9, -1).astype(bool), axis=1)
    path = tmp_path / "p.tif"
    tifffile.imwrite(
        path, np.zeros((9, 47), dtype), photometric="minisblack", bitspersample=bits, byteorder=byteorder, metadata=None
    )
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(packed.tobytes())
    found = read(path)
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found[0], values)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_bits_in_reverse_order_are_turned(tmp_path: Path, dtype: str) -> None:
    values = values_of(dtype, (4, 6))
    reverse = np.packbits(np.unpackbits(values.view(np.uint8), bitorder="little"), bitorder="big")
    path = tmp_path / "f.tif"
    tifffile.imwrite(path, reverse.view(dtype).reshape(4, 6), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].tags["ResolutionUnit"].offset
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack("<HHIHH", 266, 3, 1, 2, 0))  # FillOrder = 2
    assert np.array_equal(read(path)[0], values)


@pytest.mark.parametrize(
    ("options", "dtype", "message"),
    [
        ({"compression": "jpeg2000", "byteorder": ">"}, "uint16", "compressed with JPEG2000 as big-endian uint16"),
        ({"compression": "lerc", "predictor": True}, "float32", "LERC as little-endian float32 with predictor 3"),
        ({"bitspersample": 24}, "uint32", "stored as little-endian uint32 of 24 bits"),
        ({"compression": "jpegxl"}, "float32", "compressed with JPEGXL as little-endian float32"),
    ],
)
def test_untested_combinations_are_refused_by_name(
    tmp_path: Path, options: dict[str, Any], dtype: str, message: str
) -> None:
    values = values_of(dtype)
    tifffile.imwrite(tmp_path / "r.tif", values, photometric="minisblack", **options)
    with pytest.raises(InputError, match=f"{message}, which no tested decoder reads\nhint: save it without"):
        open_stack([str(tmp_path / "r.tif")])


def test_samples_keep_their_values(tmp_path: Path) -> None:
    for planar, codec, order in itertools.product(("contig", "separate"), BYTE_CODECS, "<>"):
        values = values_of("uint16", (3, 17, 21, 2) if planar == "contig" else (3, 2, 17, 21))
        path = tmp_path / "s.tif"
        tifffile.imwrite(
            path, values, photometric="minisblack", planarconfig=planar, compression=codec, byteorder=order,
            predictor=True if codec else None, metadata=None,
        )  # fmt: skip
        stack = open_stack([str(path)], Selection(channel=1))
        expected = values[..., 1] if planar == "contig" else values[:, 1]
        assert np.array_equal(stack[:, :, :], expected), (planar, codec, order)
        stack.close()


# Runs in its own process, because tifffile looks for imagecodecs when it is imported.
READER = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "imagecodecs":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import json
import numpy as np
from pathlib import Path
from neuroseg.errors import InputError
from neuroseg.volumes.stacks import open_stack

results = {}
for path in sorted(Path(sys.argv[1]).glob("*.tif")):
    try:
        stack = open_stack([str(path)])
        found = stack[:, :, :]
        stack.close()
        wanted = np.load(path.with_suffix(".npy"))
        results[path.stem] = "equal" if np.array_equal(found, wanted) and found.dtype == wanted.dtype else "WRONG"
    except InputError as error:
        results[path.stem] = str(error)
print(json.dumps(results))
"""


def test_without_imagecodecs_values_are_right_or_refused_by_name(tmp_path: Path) -> None:
    codecs = [*BYTE_CODECS, *IMAGE_CODECS, "jpeg"]
    for codec, dtype, order, layout in itertools.product(codecs, DTYPES, "<>", LAYOUTS):
        if codec in IMAGE_CODECS and (dtype not in IMAGE_CODECS[codec] or order == ">"):
            continue
        if codec == "jpeg" and (dtype != "uint8" or order == ">"):
            continue
        for predictor in predictors(dtype) if codec in BYTE_CODECS[1:] else [None]:
            path = tmp_path / f"{codec}_{dtype}_{'big' if order == '>' else 'little'}_{layout}_{predictor}.tif"
            values = values_of(dtype)
            tifffile.imwrite(
                path, values, photometric="minisblack", compression=codec, byteorder=order, predictor=predictor,
                metadata=None, **LAYOUTS[layout],
            )  # fmt: skip
            np.save(path.with_suffix(".npy"), values)
    tifffile.imwrite(tmp_path / "packed.tif", values_of("uint16") >> 4, photometric="minisblack", bitspersample=12)
    deep = {"volumetric": True, "compression": "lzw"}
    tifffile.imwrite(tmp_path / "deep.tif", values_of("uint8"), photometric="minisblack", **deep)
    done = subprocess.run([sys.executable, "-c", READER, str(tmp_path)], capture_output=True, text=True, check=True)
    results = json.loads(done.stdout)
    assert "WRONG" not in results.values()
    refused = {name: text for name, text in results.items() if text != "equal"}
    hint = "needs the package imagecodecs\nhint: install it: pip install 'neuroseg[codecs]'"
    assert all(hint in text for text in refused.values())
    equal = {tuple(name.split("_")[:3]) for name in results if results[name] == "equal"}
    assert {(codec, dtype) for codec, dtype, _ in equal} == {
        *itertools.product(["None", "zlib", "packbits", "lzma"], DTYPES),
        *(("lzw", dtype) for dtype in ("bool", "uint8", "uint16", "int32", "float32")),
    }
    assert "section 0 of" in results["lzw_float32_big_strip_None"]
    assert "is compressed with LZW as big-endian float32, which needs" in results["lzw_float32_big_strip_None"]
    assert "LZW as uint8, which needs" in results["deep"]
    assert "stored as little-endian uint16 of 12 bits" in results["packed"]
