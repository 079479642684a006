"""Axes of TIFFs: choices and errors, compared with numpy for every order of axes of small arrays."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.volumes.selection import WHOLE_FILE, Selection
from neuroseg.volumes.tiff_axes import arranged

SIZES = {"T": 2, "C": 3, "Z": 4, "Y": 5, "X": 6, "S": 3, "Q": 4, "I": 4}


def volume(axes: str, array: NDArray[np.int_], selection: Selection = WHOLE_FILE) -> NDArray[np.int_]:
    """Return the sections of an array as one volume (z, y, x)."""
    where = arranged(axes, array.shape, selection, "f.tif")
    sections = [array[where.place(z)] for z in range(where.sections)]
    return np.stack([section.T if where.transposed else section for section in sections])


def counted(axes: str) -> NDArray[np.int_]:
    """Return an array with these axes in which every voxel differs."""
    shape = [SIZES[axis] for axis in axes]
    return np.arange(np.prod(shape)).reshape(shape)


@pytest.mark.parametrize("axes", ["".join(order) for order in itertools.permutations("TCZYX")])
def test_every_order_of_axes_gives_the_same_volume(axes: str) -> None:
    array = counted(axes)
    expected = np.transpose(array, [axes.index(axis) for axis in "TCZYX"])[1, 2]
    assert np.array_equal(volume(axes, array, Selection(time=1, channel=2)), expected)


@pytest.mark.parametrize("axes", ["ZYX", "QYX", "IYX", "ZXY", "YXZ"])
def test_sections_lie_along_z_or_the_unnamed_axis(axes: str) -> None:
    array = counted(axes)
    order = [axes.index(axis) for axis in (axes.strip("YX"), "Y", "X")]
    assert np.array_equal(volume(axes, array), np.transpose(array, order))


def test_axes_of_size_one_need_no_option() -> None:
    array = counted("ZYX").reshape(1, 4, 1, 5, 6)
    assert np.array_equal(volume("TZCYX", array), array[0, :, 0])


def test_the_user_names_the_axes() -> None:
    array = counted("QIYX")
    assert np.array_equal(volume("QIYX", array, Selection(axes="zcyx", channel=3)), array[:, 3])
    assert np.array_equal(volume("QIYX", array, Selection(axes="czyx", channel=3)), array[3])
    assert np.array_equal(volume("TYX", counted("TYX"), Selection(axes="zyx")), counted("TYX"))
    assert np.array_equal(volume("IYX", counted("IYX"), Selection(axes="ZXY")), counted("IYX").transpose(0, 2, 1))


def test_one_time_point_of_a_single_section_is_a_volume_of_one_section() -> None:
    assert np.array_equal(volume("TYX", counted("TYX"), Selection(time=1)), counted("TYX")[1:2])


@pytest.mark.parametrize(
    ("axes", "selection", "message"),
    [
        (
            "ZCYX",
            WHOLE_FILE,
            r"contains more than one volume \(z 4, c 3, y 5, x 6\), expected one\nhint: .*--channel N \(0 to 2\)$",
        ),
        ("TZCYX", WHOLE_FILE, r"--time N \(0 to 1\); choose one with --channel N \(0 to 2\)$"),
        ("TZCYX", Selection(time=0), r"choose one with --channel N \(0 to 2\)$"),
        ("TYX", WHOLE_FILE, r"--time N \(0 to 1\); if the axis t counts sections, add --axes zyx$"),
        ("CYX", WHOLE_FILE, r"--channel N \(0 to 2\); if the axis c counts sections, add --axes zyx$"),
        ("ZYXS", WHOLE_FILE, r"samples 3\), expected one\nhint: choose one with --channel N"),
        ("QIYX", WHOLE_FILE, r"2 axes without a name \(unnamed 4, unnamed 4, y 5, x 6\)\nhint: name .* --axes zcyx"),
        ("ZQYX", WHOLE_FILE, r"name all axes, one letter each of t, c, z, y, x, with --axes$"),
        ("ZYX", Selection(channel=1), r"--channel 1 is not in f\.tif .* has only one channel\nhint: omit --channel"),
        ("ZCYX", Selection(channel=3), r"--channel 3 is not in f\.tif .* expected 0 to 2"),
        ("ZCYX", Selection(channel=-1), r"--channel -1 is not in"),
        ("ZYX", Selection(axes="zcyx"), r"--axes zcyx names 4 axes, but f\.tif has 3 \(z 4, y 5, x 6\)"),
        ("ZYX", Selection(axes="zzx"), r"is not a list of axes\nhint: use one letter each"),
        ("ZYX", Selection(axes="zyw"), r"is not a list of axes\nhint: use one letter each"),
        ("ZYX", Selection(axes="tcz"), "has no y axis"),
        ("ZCYXS", Selection(channel=1), "both channels and samples"),
    ],
)
def test_ambiguous_axes_are_refused_with_the_options(axes: str, selection: Selection, message: str) -> None:
    with pytest.raises(InputError, match=message):
        volume(axes, counted(axes), selection)
