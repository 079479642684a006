"""TIFF files as programs write them: hyperstacks, OME-TIFF, several images."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.volumes.selection import Selection
from neuroseg.volumes.stacks import open_stack
from tests.volumes.tiffs import read, values_of

OME_ORDERS = ["TCZYX", "TZCYX", "CTZYX", "CZTYX", "ZTCYX", "ZCTYX"]
IMAGEJ = [
    {}, {"truncate": True}, {"compression": "zlib"}, {"byteorder": ">"}, {"byteorder": ">", "truncate": True}
]  # fmt: skip


@pytest.mark.parametrize("options", IMAGEJ)
def test_hyperstacks_are_split_by_channel_and_time(tmp_path: Path, options: dict[str, Any]) -> None:
    values = values_of("TZCYX")
    tifffile.imwrite(tmp_path / "h.tif", values, imagej=True, metadata={"axes": "TZCYX"}, **options)
    assert np.array_equal(read(tmp_path / "h.tif", Selection(time=1, channel=2)), values[1, :, 2])
    with pytest.raises(
        InputError, match=r"t 2, z 5, c 3, y 16, x 24\), expected one\nhint: .*--time N \(0 to 1\); .*--channel"
    ):
        read(tmp_path / "h.tif")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
@pytest.mark.parametrize("axes", OME_ORDERS)
def test_ome_images_of_every_order_are_split(tmp_path: Path, axes: str, options: dict[str, Any]) -> None:
    values = values_of(axes)
    tifffile.imwrite(
        tmp_path / "o.tif", values, ome=True, photometric="minisblack", metadata={"axes": axes}, **options
    )  # fmt: skip
    expected = values.transpose([axes.index(axis) for axis in "TCZYX"])[1, 2]
    assert np.array_equal(read(tmp_path / "o.tif", Selection(time=1, channel=2)), expected)
    with pytest.raises(InputError, match="contains more than one volume"):
        read(tmp_path / "o.tif")


def test_a_time_series_is_sections_only_where_the_user_says_so(tmp_path: Path) -> None:
    values = values_of("TYX")
    tifffile.imwrite(tmp_path / "t.tif", values, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(InputError, match="if the axis t counts sections, add --axes zyx"):
        read(tmp_path / "t.tif")
    assert np.array_equal(read(tmp_path / "t.tif", Selection(axes="zyx")), values)


def test_unnamed_imagej_channels_are_refused(tmp_path: Path) -> None:
    values = values_of("ZYX")
    tifffile.imwrite(tmp_path / "c.tif", values, imagej=True)
    with pytest.raises(InputError, match=r"c 5, y 16, x 24\).*\nhint: .*add --axes zyx"):
        read(tmp_path / "c.tif")
    assert np.array_equal(read(tmp_path / "c.tif", Selection(axes="zyx")), values)


def test_axes_without_names_are_refused_with_the_option(tmp_path: Path) -> None:
    values = values_of("ZCYX")
    tifffile.imwrite(tmp_path / "q.tif", values, photometric="minisblack")
    with pytest.raises(InputError, match=r"2 axes without a name.*\nhint: .*--axes zcyx"):
        read(tmp_path / "q.tif")
    assert np.array_equal(read(tmp_path / "q.tif", Selection(axes="zcyx", channel=1)), values[:, 1])


def test_sections_that_lie_transposed_are_turned(tmp_path: Path) -> None:
    values = values_of("ZYX")
    tifffile.imwrite(tmp_path / "t.tif", values.transpose(0, 2, 1), metadata={"axes": "ZXY"})
    assert np.array_equal(read(tmp_path / "t.tif"), values)
    tifffile.imwrite(tmp_path / "x.tif", values.transpose(2, 1, 0), metadata={"axes": "XYZ"})
    with pytest.raises(InputError, match=r"spread over several pages: its axes are xyz, expected y and x last"):
        read(tmp_path / "x.tif")


@pytest.mark.parametrize("is_ome", [True, False])
def test_one_of_several_images_is_chosen(tmp_path: Path, is_ome: bool) -> None:
    first, second = values_of("ZYX"), values_of("ZYX")[:3, :8]
    with tifffile.TiffWriter(tmp_path / "s.tif", ome=is_ome) as writer:
        for values in (first, second):
            writer.write(values, photometric="minisblack", metadata={"axes": "ZYX"})
    with pytest.raises(
        InputError, match=r"2 images \(0: z 5, y 16, x 24 uint16; 1: z 3, y 8, x 24 uint16\).*\nhint: .*--series N"
    ):
        read(tmp_path / "s.tif")
    assert np.array_equal(read(tmp_path / "s.tif", Selection(series=0)), first)
    assert np.array_equal(read(tmp_path / "s.tif", Selection(series=1)), second)
    with pytest.raises(InputError, match=r"--series 2 is not in .* expected 0 to 1"):
        read(tmp_path / "s.tif", Selection(series=2))


def test_sections_that_were_written_one_by_one_are_one_stack(tmp_path: Path) -> None:
    values = values_of("ZYX")
    with tifffile.TiffWriter(tmp_path / "w.tif") as writer:
        for section in values:
            writer.write(section)
    assert np.array_equal(read(tmp_path / "w.tif"), values)


def test_single_transposed_pages_are_not_sections(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "w.tif") as writer:
        for section in values_of("ZYX"):
            writer.write(section.T, metadata={"axes": "XY"})
    with pytest.raises(InputError, match=r"5 images .*\nhint: .*--series N"):
        read(tmp_path / "w.tif")


def test_pages_that_are_stored_differently_are_one_stack(tmp_path: Path) -> None:
    values = values_of("ZYX")
    with tifffile.TiffWriter(tmp_path / "w.tif") as writer:
        for z, section in enumerate(values):
            writer.write(section, metadata=None, rowsperstrip=z + 2, compression="zlib" if z % 2 else None)
    assert np.array_equal(read(tmp_path / "w.tif"), values)


@pytest.mark.parametrize("is_ome", [True, False])
def test_of_a_pyramid_the_full_resolution_is_read(tmp_path: Path, is_ome: bool) -> None:
    values = values_of("ZYX")
    with tifffile.TiffWriter(tmp_path / "p.tif", ome=is_ome) as writer:
        writer.write(values, subifds=1, photometric="minisblack", metadata={"axes": "ZYX"} if is_ome else None)
        writer.write(values[:, ::2, ::2], subfiletype=1, photometric="minisblack")
    assert np.array_equal(read(tmp_path / "p.tif"), values)


def test_reduced_copies_among_the_pages_are_no_sections(tmp_path: Path) -> None:
    values = values_of("ZYX")
    with tifffile.TiffWriter(tmp_path / "p.tif") as writer:
        for section in values:
            writer.write(section, metadata=None)
            writer.write(section[::2, ::2], metadata=None, subfiletype=1)
    assert np.array_equal(read(tmp_path / "p.tif"), values)


def test_pages_of_one_size_are_chosen(tmp_path: Path) -> None:
    values = values_of("ZYX")
    with tifffile.TiffWriter(tmp_path / "p.tif") as writer:
        writer.write(values[0, :8], metadata=None)
        writer.write(values, metadata=None)
    with pytest.raises(InputError, match=r"section 1 of .* is 16 x 24 uint16 .*\nhint: .*--series N"):
        read(tmp_path / "p.tif")
    assert np.array_equal(read(tmp_path / "p.tif", Selection(series=1)), values)


def test_several_sections_in_a_deep_page_are_read(tmp_path: Path) -> None:
    values = values_of("ZYX")
    tifffile.imwrite(tmp_path / "d.tif", values, volumetric=True)
    assert np.array_equal(read(tmp_path / "d.tif"), values)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_colour_is_a_channel_that_may_be_chosen(tmp_path: Path, planar: str) -> None:
    values = values_of("ZCYX", "uint8")
    stored = values.transpose(0, 2, 3, 1) if planar == "contig" else values
    tifffile.imwrite(tmp_path / "c.tif", stored, photometric="rgb", planarconfig=planar)
    with pytest.raises(InputError, match=r"not greyscale, found 3 channels, RGB.*\nhint: .*--channel N"):
        read(tmp_path / "c.tif")
    assert np.array_equal(read(tmp_path / "c.tif", Selection(channel=1)), values[:, 1])


def test_files_of_one_section_each_may_hold_channels(tmp_path: Path) -> None:
    values = values_of("ZCYX")
    for z, section in enumerate(values):
        tifffile.imwrite(tmp_path / f"s{z}.tif", section, imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(InputError, match=r"s0\.tif contains more than one volume .*\nhint: .*--channel N \(0 to 2\)"):
        read(tmp_path)
    assert np.array_equal(read(tmp_path, Selection(channel=2)), values[:, 2])
    assert np.array_equal(read(tmp_path, Selection(axes="zcyx", channel=2)), values[:, 2])


def ome_of_files(folder: Path, values: NDArray[Any]) -> list[Path]:
    """Write an OME-TIFF of one file per section, each with the whole description, and return the files."""
    paths = [folder / f"part{z}.ome.tif" for z in range(len(values))]
    data = "".join(
        f'<TiffData IFD="0" PlaneCount="1" FirstZ="{z}"><UUID FileName="{path.name}">urn:uuid:{z}</UUID></TiffData>'
        for z, path in enumerate(paths)
    )
    _, height, width = values.shape
    for z, path in enumerate(paths):
        description = (
            f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{z}">'
            f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="{width}" '
            f'SizeY="{height}" SizeZ="{len(values)}" SizeC="1" SizeT="1"><Channel ID="Channel:0:0" '
            f'SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(path, values[z], description=description, metadata=None)
    return paths


def test_an_ome_image_of_several_files_is_read_from_any_of_them(tmp_path: Path) -> None:
    values = values_of("ZYX")
    paths = ome_of_files(tmp_path, values)
    for path in (paths[0], paths[3]):
        assert np.array_equal(read(path), values)
    with pytest.raises(InputError, match=r"part0\.ome\.tif has 5 pages.*\nhint: import .*part0.* an image in 5 files"):
        read(tmp_path)
    paths[2].unlink()
    with pytest.raises(InputError, match="lacks 1 of the 5 pages"):
        read(paths[0])


@pytest.mark.parametrize("name", ["../secret.tif", "/etc/passwd", "sub\\\\other.tif", "folder"])
def test_an_ome_image_reads_only_files_of_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    paths = ome_of_files(tmp_path, values_of("ZYX"))
    tifffile.tiffcomment(paths[0], described_with(paths[0], name))
    with pytest.raises(
        InputError, match=f"names {re.escape(repr(name))} as a part of its image, expected a file in the same folder"
    ):
        read(paths[0])


def described_with(path: Path, name: str) -> str:
    """Return an OME description that names another file."""
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="24" SizeY="16" SizeZ="2" SizeC="1" '
        'SizeT="1"><TiffData IFD="0" FirstZ="0" PlaneCount="1"/><TiffData IFD="0" FirstZ="1" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:9</UUID></TiffData></Pixels></Image></OME>'
    )


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (
            "ImageJ=1.53\nimages=10\nslices=10\n",
            "5 pages, but its ImageJ description lists 10",
        ),
        ("ImageJ=1.53\nimages=3\nslices=3\n", "5 pages, but its ImageJ description lists 3"),
        ('{"shape": [3, 16, 24]}', "its tifffile description is damaged"),
    ],
)
def test_a_description_that_does_not_match_the_pages_is_refused(tmp_path: Path, description: str, message: str) -> None:
    values = values_of("ZYX")
    with tifffile.TiffWriter(tmp_path / "d.tif") as writer:
        for z, section in enumerate(values):
            writer.write(section, metadata=None, description=None if z else description, compression="zlib")
    with pytest.raises(InputError, match=message):
        read(tmp_path / "d.tif")
    assert np.array_equal(read(tmp_path / "d.tif", Selection(axes="zyx")), values)


def test_ome_that_is_not_xml_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "o.tif", values_of("ZYX"), metadata=None, description="<?xml version='1.0'?><OME></broken></OME>"
    )
    with pytest.raises(InputError, match="OME description"):
        read(tmp_path / "o.tif")


@pytest.mark.parametrize("options", [{"imagej": True, "metadata": {"axes": "ZYX"}}, {}])
def test_sections_without_headers_that_were_cut_off_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, values_of("ZYX"), truncate=True, **options)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"cut off|ImageJ description is damaged"):
        read(path)


def test_pages_that_were_cut_off_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, values_of("ZYX"), imagej=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages[4].tags["StripOffsets"]
        offset = tags.valueoffset
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack("<I", 10**8))
    with pytest.raises(
        InputError, match=r"section 4 of .*cut\.tif is cut off: the file has \d+ bytes, expected 100000768"
    ):
        open_stack([str(path)])


def test_headers_that_are_damaged_are_named(tmp_path: Path) -> None:
    path = tmp_path / "d.tif"
    tifffile.imwrite(path, values_of("ZYX"), metadata=None)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[3].tags["PhotometricInterpretation"].valueoffset
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack("<H", 26625))
    with pytest.raises(InputError, match=r"d\.tif is not a readable TIFF file \(section 3 of .*26625"):
        open_stack([str(path)])


def test_a_description_of_more_sections_than_the_file_has_ends_soon(tmp_path: Path) -> None:
    description = '{"shape": [1000000000, 16, 24], "truncated": true}'
    tifffile.imwrite(tmp_path / "t.tif", values_of("YX"), metadata=None, description=description)
    with pytest.raises(InputError, match="is cut off"):
        open_stack([str(tmp_path / "t.tif")])


def test_files_that_describe_more_pages_are_read_if_the_user_names_the_axes(tmp_path: Path) -> None:
    values = values_of("ZYX")
    for z, section in enumerate(values):
        path = tmp_path / f"s{z}.tif"
        tifffile.imwrite(path, section, metadata=None, description=one_of_many(len(values), z))
    with pytest.raises(InputError, match=r"s0\.tif lacks 4 of the 5 pages .*\nhint: .*, add --axes zyx"):
        read(tmp_path)
    assert np.array_equal(read(tmp_path, Selection(axes="zyx")), values)


def one_of_many(sections: int, z: int) -> str:
    """Return an OME description of a stack. The file contains one of its pages."""
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="24" SizeY="16" SizeC="1" SizeT="1" '
        f'SizeZ="{sections}"><TiffData IFD="0" FirstZ="{z}" PlaneCount="1"/></Pixels></Image></OME>'
    )
