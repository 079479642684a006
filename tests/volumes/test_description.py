"""Axes, units and sizes in files and in options: read with certainty, or refused with a hint."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from funlib.geometry import Roi

from neuroseg.errors import InputError
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.affinity_source import open_affinities
from neuroseg.volumes.content import content_of
from neuroseg.volumes.importing import import_volume
from neuroseg.volumes.lengths import nanometres_per
from neuroseg.volumes.selection import Selection
from neuroseg.volumes.volume import Volume, require_voxel_size

VALUES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)  # z, y, x
SIZE = {"z": 40.0, "y": 5.0, "x": 4.0}
PLACE = {"z": 80.0, "y": 10.0, "x": 12.0}
TAGS = {"axes": [{"key": name, "typeFlags": 2} for name in "xyz"]}


def stored(path: Path, values: np.ndarray, names: list[str] | None = None, **attributes: Any) -> str:
    array = zarr.create_array(
        str(path), shape=values.shape, dtype=values.dtype, dimension_names=names, attributes=attributes
    )
    array[:] = values
    return str(path)


def image(path: Path, values: np.ndarray, axes: list[dict[str, Any]], *transformations: dict[str, Any]) -> str:
    group = zarr.create_group(str(path), zarr_format=3)
    group.create_array("0", shape=values.shape, dtype=values.dtype)[:] = values
    datasets = [{"path": "0", "coordinateTransformations": list(transformations)}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return str(path)


def space(order: str, unit: object = "nanometer") -> list[dict[str, Any]]:
    return [{"name": name, "type": "space", "unit": unit} for name in order]


def whole(volume: Volume) -> np.ndarray:
    return volume.read(volume.roi)


@pytest.mark.parametrize("order", ["".join(order) for order in itertools.permutations("zyx")])
@pytest.mark.parametrize("source", ["axis_names", "axes", "_ARRAY_DIMENSIONS", "axistags", "dimension_names", "ome"])
def test_every_order_of_axes_is_read_as_z_y_x(order: str, source: str, tmp_path: Path) -> None:
    turned = VALUES.transpose(["zyx".index(name) for name in order])
    sizes, places = [SIZE[name] for name in order], [PLACE[name] for name in order]
    path, given = tmp_path / "V.zarr", {"voxel_size": sizes, "offset": places}
    if source == "ome":
        scale = {"type": "scale", "scale": sizes}
        address = image(path, turned, space(order), scale, {"type": "translation", "translation": places})
    elif source == "dimension_names":
        address = stored(path, turned, list(order), **given)
    else:
        tags = json.dumps({"axes": [{"key": name} for name in order]})
        address = stored(path, turned, **given, **{source: tags if source == "axistags" else list(order)})
    volume = open_any(address)
    assert (volume.voxel_size_nm, volume.offset_nm, volume.placed) == ((40, 5, 4), (80, 10, 12), True)
    assert np.array_equal(whole(volume), VALUES)
    assert np.array_equal(volume.read(Roi((1, 0, 2), (1, 2, 2))), VALUES[1:, :2, 2:])


@pytest.mark.parametrize("how", ["labels", "axistags", "axis_names", "bytes"])
def test_hdf5_axes_are_read_from_labels_and_attributes(how: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "V.h5", "w") as file:
        dataset = file.create_dataset("raw", data=VALUES.transpose(2, 1, 0))
        for axis, name in zip(dataset.dims, "xyz", strict=True):
            axis.label = name if how == "labels" else ""
        if how != "labels":
            given = {"axistags": json.dumps(TAGS), "axis_names": ["x", "y", "z"], "bytes": np.bytes_("xyz")}
            dataset.attrs[how if how != "bytes" else "axis_names"] = given[how]
        dataset.attrs["resolution"] = np.bytes_("4,5,40")
    volume = open_any(f"{tmp_path}/V.h5:raw")
    assert volume.voxel_size_nm == (40, 5, 4)
    assert np.array_equal(whole(volume), VALUES)


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ({"voxel_size": [2, 3, 4], "units": ["um", "nm", "nm"]}, (2000, 3, 4)),
        ({"voxel_size": [2, 3, 4], "units": "um"}, (2000, 3000, 4000)),
        ({"voxel_size": [2, 3, 4], "units": b"um,nm,nm"}, (2000, 3, 4)),
        ({"resolution": [2, 3, 4]}, (2, 3, 4)),
        ({"resolution": "2,3,4"}, (2, 3, 4)),
        ({"resolution": "2 3 4"}, (2, 3, 4)),
        ({"resolution": "[2, 3, 4]"}, (2, 3, 4)),
        ({"resolution": ["2", "3", "4"]}, (2, 3, 4)),
        ({"element_size_um": [0.04, 0.005, 0.004]}, (40, 5, 4)),
        ({"resolution": 40}, None),
        ({"resolution": [40, 4]}, None),
        ({"voxel_size": "big"}, None),
        ({"voxel_size": [2, 3, 4], "units": "pixel"}, None),
        ({"voxel_size": [2, 3, 4], "units": ["nm", "", "nm"]}, None),
        ({"voxel_size": [2, 3, 4], "units": ["nm", "nm"]}, None),
        ({}, None),
    ],
)
def test_plain_voxel_sizes(attributes: dict[str, Any], size: tuple[float, ...] | None, tmp_path: Path) -> None:
    plain = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    with h5py.File(tmp_path / "V.h5", "w") as file:
        file.create_dataset("raw", data=VALUES).attrs.update(
            {name: np.bytes_(value) if isinstance(value, bytes) else value for name, value in attributes.items()}
        )
    for address in (stored(tmp_path / "V.zarr", VALUES, **plain), f"{tmp_path}/V.h5:raw"):
        found = open_any(address).voxel_size_nm
        assert found == (None if size is None else pytest.approx(size))
        assert open_any(address, voxel_size_nm=(7, 8, 9)).voxel_size_nm == (7, 8, 9)
        if size is None:
            with pytest.raises(InputError, match="--voxel-size 10 10 10"):
                require_voxel_size(open_any(address))


@pytest.mark.parametrize("size", [[0, 4, 4], [-1, 4, 4], [float("nan"), 4, 4], b"nan 4 4", [float("inf"), 4, 4]])
def test_sizes_that_are_no_lengths_are_refused_unless_one_is_given(size: list[Any], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "V.h5", "w") as file:
        file.create_dataset("raw", data=VALUES).attrs["voxel_size"] = size
    with pytest.raises(InputError, match="three positive numbers"):
        open_any(f"{tmp_path}/V.h5:raw")
    assert open_any(f"{tmp_path}/V.h5:raw", voxel_size_nm=(7, 8, 9)).voxel_size_nm == (7, 8, 9)


@pytest.mark.parametrize(
    ("unit", "nanometres"),
    [
        ("nm", 1), ("NM", 1), ("nanometer", 1), ("Nanometers", 1), ("nanometres", 1), ("um", 1e3), ("\u00b5m", 1e3),
        ("\u03bcm", 1e3), ("micron", 1e3), ("microns", 1e3), ("micrometer", 1e3), ("mm", 1e6), ("meter", 1e9),
        ("m", 1e9), ("pm", 1e-3), ("picometer", 1e-3), ("angstrom", 0.1), ("\u00c5", 0.1), ("centimeter", 1e7),
        (b"um", 1e3), ("Mm", None), ("pixel", None), ("", None), (None, None), ("none", None), ("second", None),
    ],
)  # fmt: skip
def test_units(unit: object, nanometres: float | None) -> None:
    assert nanometres_per(unit) == nanometres


@pytest.mark.parametrize("unit", ["pixel", "", None, "none", "parsec"])
def test_ome_units_that_are_no_length_leave_the_size_to_the_option(unit: object, tmp_path: Path) -> None:
    shift = {"type": "translation", "translation": [3, 3, 3]}
    path = image(tmp_path / "V.zarr", VALUES, space("zyx", unit), {"type": "scale", "scale": [4, 5, 6]}, shift)
    with pytest.raises(InputError, match=r"unit.*\nhint: .*--voxel-size"):
        require_voxel_size(open_any(path))
    given = open_any(path, voxel_size_nm=(7, 8, 9))
    assert (given.voxel_size_nm, given.placed, given.offset_nm) == ((7, 8, 9), False, (0, 0, 0))


def test_ome_scales_may_be_text_and_meters(tmp_path: Path) -> None:
    path = image(tmp_path / "V.zarr", VALUES, space("zyx", "meter"), {"type": "scale", "scale": ["4e-8", "5e-9", 4e-9]})
    assert open_any(path).voxel_size_nm == pytest.approx((40, 5, 4))
    assert not open_any(path).placed
    odd = image(tmp_path / "W.zarr", VALUES, space("zyx"), {"type": "scale", "path": "scales"})
    with pytest.raises(InputError, match=r"is not three numbers\)\nhint: give it in nm"):
        require_voxel_size(open_any(odd))


def test_channels_and_times_are_chosen_or_refused(tmp_path: Path) -> None:
    values = np.stack([np.stack([VALUES + 100 * c + 30 * t for c in range(2)]) for t in range(3)])  # t, c, z, y, x
    path = stored(tmp_path / "V.zarr", values, axis_names=["t", "c^", "z", "y", "x"], voxel_size=[40, 5, 4])
    with pytest.raises(InputError, match=r"has 3 time points, expected one\nhint: choose one with --time N \(0 to 2\)"):
        open_any(path)
    with pytest.raises(InputError, match=r"has 2 channels, expected one\nhint: choose one with --channel N \(0 to 1\)"):
        open_any(path, selection=Selection(time=2))
    with pytest.raises(InputError, match=r"has 2 channels \(0 to 1\), found --channel 2"):
        open_any(path, selection=Selection(time=2, channel=2))
    volume = open_any(path, selection=Selection(time=2, channel=1))
    assert np.array_equal(whole(volume), VALUES + 160)
    assert volume.voxel_size_nm == (40, 5, 4)
    assert content_of(volume).identity != content_of(open_any(path, selection=Selection(time=0, channel=1))).identity
    made = import_volume(
        [path], tmp_path / "made.zarr", voxel_size_nm=None, value_range=None, progress=None,
        selection=Selection(time=1, channel=1),
    )  # fmt: skip
    assert np.array_equal(whole(open_any(str(made.path))), VALUES + 130)


def test_axes_of_size_one_are_dropped_wherever_they_lie(tmp_path: Path) -> None:
    turned = VALUES.transpose(2, 0, 1)[:, None]  # x, c, z, y
    path = stored(tmp_path / "V.zarr", turned, ["x", "c", "z", "y"], voxel_size=[4, 1, 40, 5])
    volume = open_any(path)
    assert (volume.voxel_size_nm, volume.chunks) == ((40, 5, 4), (2, 3, 4))
    assert np.array_equal(whole(volume), VALUES)


def test_axes_without_names_are_asked_for_and_the_option_wins(tmp_path: Path) -> None:
    bare = stored(tmp_path / "bare.zarr", np.stack([VALUES, VALUES + 100]))
    with pytest.raises(InputError, match=r"4D array of shape \(2, 2, 3, 4\) without axis names.*\nhint: .*--axes czyx"):
        open_any(bare)
    assert np.array_equal(whole(open_any(bare, selection=Selection("czyx", channel=1))), VALUES + 100)
    wrong = stored(tmp_path / "wrong.zarr", VALUES.transpose(2, 1, 0), axis_names=["z", "y", "x"])
    assert np.array_equal(whole(open_any(wrong, selection=Selection("xyz"))), VALUES)


@pytest.mark.parametrize(
    ("values", "names", "attributes", "found"),
    [
        (
            VALUES,
            list("zyx"),
            {"axis_names": list("xyz")},
            r"xyz in axis_names but zyx in dim.*\nhint: .*--axes zyx",
        ),
        (VALUES, ["depth", "row", "column"], {}, r"depth,row,column.*, expected z, y, x.*\nhint: .*--axes zyx"),
        (VALUES, ["z", None, "x"], {}, "expected z, y, x, optionally t and c"),
        (VALUES, list("czy"), {}, "expected z, y, x, optionally t and c"),
        (VALUES[None], None, {"axis_names": list("zyx")}, r"axes zyx.*but 4 dimensions\nhint: .*--axes"),
        (VALUES[0], None, {"axis_names": list("yx")}, "is a 2D array"),
    ],
)
def test_ambiguous_names_are_refused(
    values: np.ndarray, names: list[str] | None, attributes: dict[str, Any], found: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=found):
        open_any(stored(tmp_path / "V.zarr", values, names, **attributes))


def test_options_for_missing_axes_are_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "V.zarr", VALUES)
    with pytest.raises(InputError, match=r"without a channel axis, found --channel 0\nhint: omit --channel"):
        open_any(path, selection=Selection(channel=0))
    for axes in ("zyy", "zy", "zyq", "czyx"):
        with pytest.raises(InputError, match="--axes"):
            open_any(path, selection=Selection(axes))


def test_affinities_of_any_order_are_read_as_channels_of_z_y_x(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (3, 5, 6, 7)).astype(np.uint8)
    given = {"voxel_size": [4, 5, 40], "axis_names": ["x", "y", "z", "c^"]}
    turned = np.ascontiguousarray(values.transpose(3, 2, 1, 0))
    path = stored(tmp_path / "A.zarr", turned, offsets=[[0, 0, -1], [0, -1, 0], [-1, 0, 0]], **given)
    source = open_affinities(path, None, None)
    assert (source.shape, source.voxel_size_nm) == ((5, 6, 7), (40, 5, 4))
    assert source.offsets == ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
    roi = Roi((1, 0, 2), (3, 6, 4))
    assert np.array_equal(source.open()(roi), values[:, 1:4, :, 2:6])
    assert np.array_equal(source.only([2, 0]).open()(roi), values[[2, 0], 1:4, :, 2:6])
    bare = stored(tmp_path / "B.zarr", turned[..., None], offsets=[[-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    again = open_affinities(bare, "-1,0,0;0,-1,0;0,0,-1", (40, 5, 4), Selection("xyzct"))
    assert np.array_equal(again.open()(roi), values[:, 1:4, :, 2:6])


def test_names_that_only_count_are_none(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = stored(tmp_path / "x.zarr", values, _ARRAY_DIMENSIONS=["dim_0", "dim_1", "dim_2"], voxel_size=[40, 4, 4])
    assert np.array_equal(whole(open_any(path)), values)


def test_metadata_of_a_folder_above_about_other_arrays_are_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = {"multiscales": [{"axes": [{"type": "space"}], "datasets": [{"path": "raw"}]}]}
    group = zarr.open_group(str(tmp_path / "p.zarr"), mode="w", zarr_format=2, attributes=broken)
    array = group.create_array("b", shape=(2, 3, 4), dtype="u1", attributes={"voxel_size": [40, 4, 4]})
    array[:] = 7
    assert open_any(str(tmp_path / "p.zarr" / "b")).voxel_size_nm == (40, 4, 4)
    assert "ignoring the metadata of" in caplog.text


@pytest.mark.parametrize(("high", "force", "is_refused"), [(1, False, True), (1, True, False), (199, False, False)])
def test_channels_of_affinities_are_judged_together(tmp_path: Path, high: int, force: bool, is_refused: bool) -> None:
    values = np.random.default_rng(0).integers(0, high + 1, (3, 32, 32, 32)).astype(np.uint8)
    values[0] = np.random.default_rng(0).integers(0, 2, (32, 32, 32))
    offsets = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
    path = stored(tmp_path / "a.zarr", values, offsets=offsets, voxel_size=[10, 10, 10])
    if is_refused:
        with pytest.raises(InputError, match="multiply the values by 255"):
            open_affinities(path, None, None, force=force)
    else:
        open_affinities(path, None, None, force=force)
