"""Section stacks: order, gaps, headers and pixels, on files of a few voxels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from neuroseg.errors import InputError
from neuroseg.volumes.stacks import is_stack, open_stack

ALL = (slice(None), slice(None), slice(None))


def write_section(path: Path, value: int = 0, shape: tuple[int, ...] = (4, 6), dtype: str = "uint8") -> None:
    """Write a section with voxels that count up from `value`."""
    pixels = (np.arange(np.prod(shape)) + value).reshape(shape).astype(dtype)
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels, photometric="rgb" if len(shape) == 3 else "minisblack")


def write_sections(folder: Path, names: list[str]) -> None:
    """Write sections. The first voxel of each is its index in `names`."""
    for value, name in enumerate(names):
        write_section(folder / name, value)


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_section_ten_follows_section_nine(tmp_path: Path, suffix: str) -> None:
    write_sections(tmp_path, [f"s{number}.{suffix}" for number in range(8, 12)])
    assert open_stack([str(tmp_path)])[ALL][:, 0, 0].tolist() == [0, 1, 2, 3]


def test_listed_files_are_put_in_natural_order(tmp_path: Path) -> None:
    write_sections(tmp_path, ["s9.tif", "s10.tif", "s11.tif"])
    stack = open_stack([str(tmp_path / name) for name in ("s10.tif", "s11.tif", "s9.tif")])
    assert stack[ALL][:, 0, 0].tolist() == [0, 1, 2]


def test_section_number_is_found_beside_constants_and_dates(tmp_path: Path) -> None:
    write_sections(tmp_path, ["em4_20240105_s1.tif", "em4_20231224_s2.tif", "em4_20240301_s3.tif"])
    assert open_stack([str(tmp_path)])[ALL][:, 0, 0].tolist() == [0, 1, 2]


def test_listed_files_may_keep_their_order(tmp_path: Path) -> None:
    write_sections(tmp_path, ["b1_s2.tif", "b2_s1.tif"])
    listed = [str(tmp_path / name) for name in ("b2_s1.tif", "b1_s2.tif")]
    with pytest.raises(InputError, match="--order given"):
        open_stack(listed)
    assert open_stack(listed, order="given")[ALL][:, 0, 0].tolist() == [1, 0]
    with pytest.raises(InputError, match="is a folder, but --order given needs a list of files"):
        open_stack([str(tmp_path)], order="given")
    with pytest.raises(InputError, match="one file, but --order 1 needs several"):
        open_stack(listed[:1], order="1")


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [([1, 2, 4], "section 3 is"), ([1, 3], "section 2 is"), ([1, 2, 5, 7], "section 3, 4, 6 is")],
)
def test_missing_sections_are_named(tmp_path: Path, numbers: list[int], missing: str) -> None:
    write_sections(tmp_path, [f"s{number:03d}.png" for number in numbers])
    with pytest.raises(InputError, match=missing):
        open_stack([str(tmp_path)])


def test_a_long_gap_is_not_listed_in_full(tmp_path: Path) -> None:
    write_sections(tmp_path, ["s1.png", "s2.png", "s1000.png"])
    with pytest.raises(InputError, match=r"section 3, 4, 5, 6, 7 and 992 more is missing"):
        open_stack([str(tmp_path)])


def test_numbers_may_count_by_tens_but_not_skip_one(tmp_path: Path) -> None:
    write_sections(tmp_path, ["z80.tif", "z90.tif", "z100.tif"])
    assert open_stack([str(tmp_path)]).shape == (3, 4, 6)
    write_section(tmp_path / "z120.tif")
    with pytest.raises(InputError, match="section 110 is missing"):
        open_stack([str(tmp_path)])


def test_tiles_without_a_counting_number_are_refused(tmp_path: Path) -> None:
    write_sections(tmp_path, ["r1_c1.tif", "r1_c2.tif", "r2_c1.tif", "r2_c2.tif"])
    with pytest.raises(InputError, match="one image per section"):
        open_stack([str(tmp_path)])


def test_two_prefixes_are_two_stacks(tmp_path: Path) -> None:
    write_sections(tmp_path, ["raw1.tif", "raw2.tif", "truth1.tif", "truth2.tif"])
    with pytest.raises(InputError, match="found raw#, truth#"):
        open_stack([str(tmp_path)])


def test_tiff_and_png_in_one_folder_are_refused(tmp_path: Path) -> None:
    write_sections(tmp_path, ["s1.tif", "s2.tiff", "s3.png"])
    with pytest.raises(InputError, match="1 PNG files and 2 TIFF files"):
        open_stack([str(tmp_path)])


def test_hidden_files_and_other_files_are_ignored(tmp_path: Path) -> None:
    write_sections(tmp_path, ["s1.tif", "s2.TIFF"])
    for name in ("._s3.tif", "Thumbs.db", "notes.txt"):
        (tmp_path / name).write_text("no image")
    (tmp_path / "s9.tif").mkdir()
    assert open_stack([str(tmp_path)]).shape == (2, 4, 6)


def test_a_folder_without_sections_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match="neither a zarr array or group nor TIFF or PNG sections"):
        open_stack([str(tmp_path)])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_section(tmp_path / "s1.tif")
    with pytest.raises(InputError, match=r"s2\.tif does not exist"):
        open_stack([str(tmp_path / "s1.tif"), str(tmp_path / "s2.tif")])


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_another_size_is_named_with_found_and_expected(tmp_path: Path, suffix: str) -> None:
    write_sections(tmp_path, [f"s1.{suffix}", f"s2.{suffix}"])
    write_section(tmp_path / f"s3.{suffix}", shape=(5, 6))
    with pytest.raises(InputError, match=rf"s3\.{suffix} is 5 x 6 uint8 \(y, x\), expected 4 x 6 uint8 as in s1"):
        open_stack([str(tmp_path)])


def test_another_dtype_is_named_with_found_and_expected(tmp_path: Path) -> None:
    write_section(tmp_path / "s1.png")
    write_section(tmp_path / "s2.png", dtype="uint16")
    with pytest.raises(InputError, match=r"s2\.png is 4 x 6 uint16 \(y, x\), expected 4 x 6 uint8"):
        open_stack([str(tmp_path)])


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_colour_is_refused_and_the_fix_named(tmp_path: Path, suffix: str) -> None:
    for number in (1, 2):
        write_section(tmp_path / f"s{number}.{suffix}", shape=(4, 6, 3))
    with pytest.raises(InputError, match=r"s1\.\w+ is not greyscale.*RGB.*\nhint: .*8-bit"):
        open_stack([str(tmp_path)])


def test_palettes_and_white_is_zero_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 6), np.uint8)).convert("P").save(tmp_path / "p.png")
    tifffile.imwrite(tmp_path / "w.tif", np.zeros((4, 6), np.uint8), photometric="miniswhite")
    with pytest.raises(InputError, match="mode P"):
        open_stack([str(tmp_path / "p.png")])
    with pytest.raises(InputError, match="stores white as 0"):
        open_stack([str(tmp_path / "w.tif")])


def test_png_of_four_bits_is_refused_for_its_labels_would_be_scaled(tmp_path: Path) -> None:
    path = tmp_path / "four.png"
    header, rows = b"IHDR" + struct.pack(">IIBBBBB", 6, 4, 4, 0, 0, 0, 0), b"\0\x33\x33\x33" * 4
    parts = [header, b"IDAT" + zlib.compress(rows), b"IEND"]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts
    )
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"four\.png stores 4 bits per pixel, expected 1, 8 or 16"):
        open_stack([str(path)])


def test_opening_decodes_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sections(tmp_path, ["s1.png", "s2.png"])
    decoded: list[str] = []
    load = PngImageFile.load
    monkeypatch.setattr(PngImageFile, "load", lambda image: decoded.append(Path(image.filename).name) or load(image))
    stack = open_stack([str(tmp_path)])
    assert decoded == []
    stack[1:2, :, :]
    assert set(decoded) == {"s2.png"}


def test_a_slice_equals_that_of_the_whole(tmp_path: Path) -> None:
    write_sections(tmp_path, ["s1.png", "s2.png", "s3.png"])
    stack = open_stack([str(tmp_path)])
    whole = stack[ALL]
    assert np.array_equal(whole[2], (np.arange(24) + 2).reshape(4, 6))
    assert np.array_equal(stack[1:3, 1:3, 2:5], whole[1:3, 1:3, 2:5])


def test_sixteen_bit_png_keeps_its_values(tmp_path: Path) -> None:
    write_section(tmp_path / "s1.png", 60000, dtype="uint16")
    stack = open_stack([str(tmp_path)])
    assert stack.dtype == stack.section(0).dtype == np.uint16
    assert stack[ALL].ravel().tolist() == list(range(60000, 60024))


@pytest.mark.parametrize(
    "layout", ["plain", "tiled", "deflated", "lzw", "big-endian", "imagej", "one header", "one big-endian header"]
)
def test_multi_page_tiff_is_a_stack(tmp_path: Path, layout: str) -> None:
    volume = np.arange(5 * 32 * 48).reshape(5, 32, 48).astype(np.uint16)
    path = tmp_path / "stack.tif"
    if layout == "lzw":
        first, *others = (Image.fromarray(section) for section in volume)
        first.save(path, compression="tiff_lzw", save_all=True, append_images=others)
    else:
        options = {"tiled": {"tile": (16, 16), "compression": "zlib"}, "deflated": {"compression": "zlib"}}
        options |= {
            "big-endian": {"byteorder": ">"},
            "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
            "one header": {"truncate": True},
        }
        options |= {"one big-endian header": {"byteorder": ">", "truncate": True}}
        tifffile.imwrite(path, volume, **options.get(layout, {}))
    stack = open_stack([str(path)])
    assert stack.shape == volume.shape
    assert stack.dtype == np.uint16
    assert stack.section(4).dtype == np.uint16
    assert stack.section(4).dtype.isnative
    assert np.array_equal(stack[1:4, 3:20, 5:40], volume[1:4, 3:20, 5:40])
    stack.close()


def test_two_grey_channels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "two.tif", np.zeros((4, 6, 2), np.uint8), photometric="minisblack", planarconfig="contig"
    )
    with pytest.raises(InputError, match="2 channels"):
        open_stack([str(tmp_path / "two.tif")])


def test_pages_of_two_sizes_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "stack.tif") as writer:
        writer.write(np.zeros((4, 6), np.uint8))
        writer.write(np.zeros((2, 3), np.uint8))
    with pytest.raises(InputError, match=r"section 1 of .* is 2 x 3 uint8 \(y, x\), expected 4 x 6"):
        open_stack([str(tmp_path / "stack.tif")])


def test_several_multi_page_files_are_refused(tmp_path: Path) -> None:
    for number in (1, 2):
        tifffile.imwrite(tmp_path / f"s{number}.tif", np.zeros((5, 4, 6), np.uint8))
    with pytest.raises(InputError, match=r"s1\.tif has 5 pages"):
        open_stack([str(tmp_path)])


def test_broken_files_are_named(tmp_path: Path) -> None:
    for name in ("s1.tif", "s1.png"):
        (tmp_path / name).write_text("no image")
        with pytest.raises(InputError, match=rf"{name} is not a readable"):
            open_stack([str(tmp_path / name)])


def test_a_truncated_section_is_named_when_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8)).save(tmp_path / "s1.png")
    content = (tmp_path / "s1.png").read_bytes()
    (tmp_path / "s1.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cannot decode section 0 of "):
        open_stack([str(tmp_path)])[ALL]


def test_a_zarr_folder_is_no_stack(tmp_path: Path) -> None:
    assert is_stack([str(tmp_path)])
    (tmp_path / "zarr.json").write_text("{}")
    assert not is_stack([str(tmp_path)])
    assert not is_stack(["raw.h5:raw"])
    assert is_stack(["a1.tif", "a2.tif"])
