"""Where volumes lie against each other: all conventions, levels and offsets against a placement by brute force."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from funlib.geometry import Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroseg.errors import InputError
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.importing import import_volume
from neuroseg.volumes.mask import open_mask
from neuroseg.volumes.placement import CENTRE, CORNER, UNKNOWN, Grid, corner_shift_nm
from neuroseg.volumes.volume import create_volume, write_levels

ORIGIN = (0.0, 0.0, 0.0)
RAW = (10.0, 10.0, 10.0)


def plain(path: Path, values: np.ndarray, **attributes: Any) -> str:
    zarr.create_array(str(path), shape=values.shape, dtype=values.dtype, attributes=attributes)[:] = values
    return str(path)


def pyramid(path: Path, levels: list[np.ndarray], *, translated: bool = True, begin: float = 0.0) -> str:
    """An image of voxels of 10 nm whose levels halve it, with or without the translations of their centres."""
    group, datasets = zarr.create_group(str(path), zarr_format=3), []
    for number, values in enumerate(levels):
        group.create_array(str(number), shape=values.shape, dtype=values.dtype)[:] = values
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": [10 * 2**number] * 3}]
        if translated:
            steps.append({"type": "translation", "translation": [begin + 5 * (2**number - 1)] * 3})
        datasets.append({"path": str(number), "coordinateTransformations": steps})
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return str(path)


def covered(mask: np.ndarray, factor: int, shape: tuple[int, ...]) -> np.ndarray:
    """Voxel i of the mask over voxels factor * i to factor * i + factor - 1, none beyond."""
    fine = mask.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)[tuple(slice(0, size) for size in shape)]
    return np.pad(fine, [(0, size - have) for size, have in zip(shape, fine.shape, strict=True)]).astype(bool)


def masks(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 2, (16 // 2**n, 24 // 2**n, 32 // 2**n)).astype(np.uint8) for n in range(4)]


@pytest.mark.parametrize("way", ["level", "imported", "path", "imported twice"])
@pytest.mark.parametrize("translated", [True, False])
@pytest.mark.parametrize("convention", [CENTRE, CORNER, UNKNOWN])
def test_every_level_of_a_pyramid_covers_whole_voxels(
    way: str, translated: bool, convention: str, tmp_path: Path
) -> None:
    levels = masks(3)
    begin = 0.0 if convention == UNKNOWN or not translated else 70.0
    source = pyramid(tmp_path / "P.zarr", levels, translated=translated, begin=begin)
    for number, values in enumerate(levels):
        address = f"{source}/{number}"
        if way != "path" and (way != "level" or number):
            for turn in range(2 if way == "imported twice" else 1):
                made = tmp_path / f"{number}-{turn}.zarr"
                level = number if turn == 0 else 0
                import_volume(
                    [source if turn == 0 else str(tmp_path / f"{number}-0.zarr")], made,
                    voxel_size_nm=None, value_range=None, level=level, progress=None,
                )  # fmt: skip
                address = str(made)
        mask = open_mask(address, (16, 24, 32), RAW, (begin,) * 3, convention)
        assert np.array_equal(mask.open()(Roi(ORIGIN, (16, 24, 32))), covered(values, 2**number, (16, 24, 32))), number


@pytest.mark.parametrize("imported", [False, True])
@pytest.mark.parametrize("convention", [CENTRE, CORNER, UNKNOWN])
def test_a_plain_mask_aligns_with_corners(imported: bool, convention: str, tmp_path: Path) -> None:
    values = masks(5)[2]
    address = plain(tmp_path / "M.zarr", values, voxel_size=[40, 40, 40], offset=[0, 0, 0])
    if imported and convention != CENTRE:
        import_volume([address], tmp_path / "I.zarr", voxel_size_nm=None, value_range=None, progress=None)
        address = str(tmp_path / "I.zarr")
    mask = open_mask(address, (16, 24, 32), RAW, ORIGIN, convention)
    assert np.array_equal(mask.open()(Roi(ORIGIN, (16, 24, 32))), covered(values, 4, (16, 24, 32)))


def test_a_run_at_a_level_of_a_pyramid_fits_masks_of_other_levels(tmp_path: Path) -> None:
    levels = masks(7)
    source = pyramid(tmp_path / "P.zarr", levels, begin=20.0)
    raw = open_any(source, level=1)
    assert (raw.offset_nm, raw.corner_nm, raw.convention) == ((25.0,) * 3, (20.0,) * 3, CENTRE)
    mask = open_mask(f"{source}/3", raw.shape, (20.0,) * 3, raw.offset_nm, raw.zero)
    assert np.array_equal(mask.open()(raw.roi), covered(levels[3], 4, raw.shape))
    finer = open_mask(f"{source}/0", raw.shape, (20.0,) * 3, raw.offset_nm, raw.zero)
    # Each centre of a voxel of 20 nm lies between two of 10 nm: the later one counts.
    assert np.array_equal(finer.open()(raw.roi), levels[0][1::2, 1::2, 1::2].astype(bool))


def test_written_offsets_are_corners_and_translations_centres(tmp_path: Path) -> None:
    source = pyramid(tmp_path / "P.zarr", masks(1), begin=20.0)
    import_volume([source], tmp_path / "I.zarr", voxel_size_nm=None, value_range=None, level=2, progress=None)
    group = zarr.open_group(str(tmp_path / "I.zarr"), mode="r")
    [dataset] = group.attrs["ome"]["multiscales"][0]["datasets"]
    assert dataset["coordinateTransformations"][1]["translation"] == [35.0] * 3
    assert group["0"].attrs["offset"] == [20.0] * 3
    assert open_any(str(tmp_path / "I.zarr" / "0")).offset_nm == (35.0,) * 3


def test_what_states_no_place_stays_unknown_after_an_import(tmp_path: Path) -> None:
    plain(tmp_path / "V.zarr", masks(1)[2], voxel_size=[40, 4, 4])
    import_volume([str(tmp_path / "V.zarr")], tmp_path / "I.zarr", voxel_size_nm=None, value_range=None, progress=None)
    assert not open_any(str(tmp_path / "V.zarr")).placed
    assert not open_any(str(tmp_path / "I.zarr")).placed
    assert not open_any(str(tmp_path / "I.zarr" / "0")).placed


def test_levels_of_a_written_pyramid_share_the_corner(tmp_path: Path) -> None:
    for convention in (CENTRE, CORNER, UNKNOWN):
        path = tmp_path / f"{convention}.zarr"
        begin = (0.0 if convention == UNKNOWN else 30.0,) * 3
        grid = Grid(RAW, begin, convention)
        create_volume(path, shape=(8, 8, 8), dtype=np.uint8, block=(8, 8, 8), voxel_size_nm=RAW, offset_nm=begin)
        zarr.open_group(str(path)).create_array("1", shape=(4, 4, 4), dtype="u1")
        write_levels(path, [("0", (1, 1, 1)), ("1", (2, 2, 2))], grid, labels=True, name="V", more={})
        coarse = open_any(str(path), level=1)
        assert coarse.zero == convention
        assert coarse.corner_nm == begin
        assert coarse.offset_nm == ((35.0,) * 3 if convention == CENTRE else begin)


def test_a_mask_without_a_place_must_have_the_extent_of_a_volume_that_has_one(tmp_path: Path) -> None:
    address = plain(tmp_path / "M.zarr", np.ones((4, 4, 4), np.uint8), voxel_size=[40, 40, 40])
    assert open_mask(address, (16, 16, 15), RAW, (500.0,) * 3).open()(Roi(ORIGIN, (16, 16, 15))).all()
    with pytest.raises(InputError, match=r"has no offset, and its extent differs.*\nhint: .*attribute offset"):
        open_mask(address, (16, 16, 32), RAW, (500.0,) * 3)


def test_a_place_without_a_voxel_size_is_that_of_the_volumes_voxels(tmp_path: Path) -> None:
    address = plain(tmp_path / "M.zarr", np.ones((2, 2, 2), np.uint8), offset=[10, 0, 20])
    found = open_mask(address, (4, 4, 4), RAW, ORIGIN).open()(Roi(ORIGIN, (4, 4, 4)))
    expected = np.zeros((4, 4, 4), bool)
    expected[1:3, 0:2, 2:4] = True
    assert np.array_equal(found, expected)


sizes = st.sampled_from([Fraction(4), Fraction(5), Fraction(8), Fraction(10), Fraction(40), Fraction(63, 10)])
offsets = st.integers(-6, 6).map(lambda half: Fraction(half * 5, 2))


@settings(max_examples=300, deadline=None)
@given(sizes, sizes, offsets, offsets, st.sampled_from([CENTRE, CORNER]), st.sampled_from([CENTRE, CORNER]))
def test_shifts_agree_with_a_placement_voxel_by_voxel(
    size: Fraction, other: Fraction, offset: Fraction, begin: Fraction, of: str, by: str
) -> None:
    shift = corner_shift_nm(
        Grid((float(size),) * 3, (float(offset),) * 3, of), Grid((float(other),) * 3, (float(begin),) * 3, by)
    )[1]
    # The convention in which both numbers are meant, and the first corners that they then give.
    meant = of if of == by or size > other else by
    if size == other:
        assert shift == pytest.approx(float(offset - begin))
    corner, reference = (offset, begin) if meant == CORNER else (offset - size / 2, begin - other / 2)
    assert shift == pytest.approx(float(corner - reference))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_masks_agree_with_a_placement_voxel_by_voxel(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    shape, order = (5, 6, 7), data.draw(st.permutations("zyx"))
    size, edge = (tuple(data.draw(sizes) for _ in range(3)) for _ in range(2))
    offset, begin = (tuple(data.draw(offsets) for _ in range(3)) for _ in range(2))
    by = data.draw(st.sampled_from([CENTRE, CORNER]))
    values = np.random.default_rng(0).integers(0, 2, (4, 3, 5)).astype(np.uint8)
    stored = {axis: (float(s), float(o)) for axis, s, o in zip("zyx", size, offset, strict=True)}
    path = plain(
        tmp_path_factory.mktemp("m") / "M.zarr", values.transpose(["zyx".index(axis) for axis in order]),
        axis_names=list(order), voxel_size=[stored[a][0] for a in order], offset=[stored[a][1] for a in order],
    )  # fmt: skip
    mask = open_mask(path, shape, tuple(map(float, edge)), tuple(map(float, begin)), by)
    expected = np.zeros(shape, bool)
    for voxel in np.ndindex(shape):
        at = []
        for axis in range(3):
            centre = begin[axis] + (voxel[axis] + Fraction(1, 2)) * edge[axis]
            corner = offset[axis]
            if by == CENTRE and edge[axis] >= size[axis]:  # both numbers are centres
                centre, corner = centre - edge[axis] / 2, corner - size[axis] / 2
            at.append((centre - corner) // size[axis])
        if all(0 <= index < length for index, length in zip(at, values.shape, strict=True)):
            expected[voxel] = values[tuple(map(int, at))]
    assert np.array_equal(mask.open()(Roi(ORIGIN, shape)), expected)
