"""Imports end to end, on volumes of a few thousand voxels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres
from neuroseg.volumes import importing
from neuroseg.volumes.importing import ImportedVolume, box_shape, default_block, import_volume
from neuroseg.volumes.stacks import SectionStack
from neuroseg.volumes.volume import Volume, open_volume

VOXEL_SIZE_NM = (30.0, 6.0, 6.5)


def convert(sources: list[str], output: Path, **options: Any) -> ImportedVolume:
    """Import with defaults."""
    return import_volume(
        sources, output, **{"voxel_size_nm": VOXEL_SIZE_NM, "value_range": None, "progress": None, **options}
    )


def written(output: Path) -> NDArray[Any]:
    """Return all voxels of an imported volume."""
    volume = open_volume(str(output))
    return volume.read(volume.roi)


@pytest.fixture
def hdf5(tmp_path: Path) -> Callable[..., str]:
    """Write an array to `tmp_path/source.h5:raw` and return that address."""

    def write(values: Any, **attributes: Any) -> str:
        with h5py.File(tmp_path / "source.h5", "w") as file:
            file.create_dataset("raw", data=values).attrs.update(attributes)
        return f"{tmp_path / 'source.h5'}:raw"

    return write


def volume_of(shape: tuple[int, int, int], dtype: str = "uint8") -> NDArray[Any]:
    """Return random voxels over the full range of an integer type."""
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def test_a_stack_becomes_a_volume(tmp_path: Path) -> None:
    values = volume_of((12, 20, 30))
    (tmp_path / "sections").mkdir()
    for number, section in enumerate(values):
        tifffile.imwrite(tmp_path / "sections" / f"s{number}.tif", section)
    imported = convert([str(tmp_path / "sections")], tmp_path / "V.zarr")
    volume = open_volume(str(tmp_path / "V.zarr"))
    assert np.array_equal(volume.read(volume.roi), values)
    assert volume.voxel_size_nm == VOXEL_SIZE_NM
    assert (imported.path, imported.shape, imported.dtype) == (tmp_path / "V.zarr", (12, 20, 30), np.uint8)
    assert (imported.voxel_size_nm, imported.offset_nm) == (VOXEL_SIZE_NM, (0.0, 0.0, 0.0))
    assert imported.seconds > 0


def test_the_image_is_named_after_the_output(tmp_path: Path, hdf5: Callable[..., str]) -> None:
    convert([hdf5(volume_of((3, 4, 5)))], tmp_path / "V.zarr")
    assert zarr.open_group(str(tmp_path / "V.zarr"), mode="r").attrs["ome"]["multiscales"][0]["name"] == "V"


def test_hdf5_resolution_and_offset_are_kept(tmp_path: Path, hdf5: Callable[..., str]) -> None:
    source = hdf5(volume_of((3, 4, 5)), resolution=[40, 4, 4], offset=[80, 8, 12])
    imported = convert([source], tmp_path / "V.zarr", voxel_size_nm=None)
    volume = open_volume(str(tmp_path / "V.zarr"))
    assert imported.voxel_size_nm == volume.voxel_size_nm == (40.0, 4.0, 4.0)
    assert imported.offset_nm == volume.offset_nm == (80.0, 8.0, 12.0)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_arrays_of_both_versions_are_read(tmp_path: Path, zarr_format: Any) -> None:
    values = volume_of((5, 6, 7))
    attributes = {"voxel_size": [40, 4, 4], "offset": [0, 8, 12]}
    array = zarr.create_array(
        str(tmp_path / "source.zarr"), data=values, zarr_format=zarr_format, attributes=attributes
    )
    assert array.metadata.zarr_format == zarr_format
    imported = convert([str(tmp_path / "source.zarr")], tmp_path / "V.zarr", voxel_size_nm=None)
    assert imported.offset_nm == (0.0, 8.0, 12.0)
    assert np.array_equal(written(tmp_path / "V.zarr"), values)


def write_ome_micrometres(path: Path, levels: list[NDArray[Any]]) -> None:
    """Write an OME-NGFF 0.4 image in micrometres, each level half as fine as the one before."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    datasets = []
    for index, values in enumerate(levels):
        group.create_array(str(index), data=values)
        scale = {"type": "scale", "scale": [0.04 * 2**index, 0.004 * 2**index, 0.004 * 2**index]}
        shift = {"type": "translation", "translation": [0.4, 0.08, 0.0]}
        datasets.append({"path": str(index), "coordinateTransformations": [scale, shift]})
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]


@pytest.mark.parametrize(("level", "factor"), [(0, 1), (1, 2)])
def test_ome_micrometres_become_nanometres(tmp_path: Path, level: int, factor: int) -> None:
    levels = [volume_of((6, 8, 10)), volume_of((3, 4, 5))]
    write_ome_micrometres(tmp_path / "source.zarr", levels)
    imported = convert([str(tmp_path / "source.zarr")], tmp_path / "V.zarr", voxel_size_nm=None, level=level)
    assert imported.voxel_size_nm == pytest.approx((40 * factor, 4 * factor, 4 * factor))
    assert imported.offset_nm == pytest.approx((400, 80, 0))
    assert np.array_equal(written(tmp_path / "V.zarr"), levels[level])


def test_a_stack_has_no_second_level(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", volume_of((5, 4, 6)))
    with pytest.raises(InputError, match="found --level 1"):
        convert([str(tmp_path / "stack.tif")], tmp_path / "V.zarr", level=1)


def test_uint16_spans_its_full_range_by_default(tmp_path: Path, hdf5: Callable[..., str]) -> None:
    source = hdf5(np.array([0, 128, 129, 257, 32768, 65535], np.uint16).reshape(1, 2, 3))
    convert([source], tmp_path / "V.zarr")
    assert written(tmp_path / "V.zarr").dtype == np.uint8
    assert written(tmp_path / "V.zarr").ravel().tolist() == [0, 0, 1, 1, 128, 255]


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64"])
def test_a_range_is_scaled_rounded_and_clipped(tmp_path: Path, hdf5: Callable[..., str], dtype: str) -> None:
    source = hdf5(np.array([50, 100, 101, 102, 355, 1000], dtype).reshape(1, 2, 3))
    convert([source], tmp_path / "V.zarr", value_range=(100, 610))
    # 510 values share 255 steps: 101 lies at 0.5 and rounds to the even 0.
    assert written(tmp_path / "V.zarr").ravel().tolist() == [0, 0, 0, 1, 128, 255]


def test_bool_becomes_zero_and_one(tmp_path: Path, hdf5: Callable[..., str]) -> None:
    convert([hdf5(np.array([[[True, False, True]]]))], tmp_path / "V.zarr")
    assert written(tmp_path / "V.zarr").ravel().tolist() == [1, 0, 1]


def test_float_without_range_is_refused(tmp_path: Path, hdf5: Callable[..., str]) -> None:
    with pytest.raises(InputError, match=r"float32 and needs a range\nhint: .*--range LOW HIGH"):
        convert([hdf5(np.zeros((2, 3, 4), np.float32))], tmp_path / "V.zarr")


def test_nan_is_named_with_its_place(tmp_path: Path, hdf5: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_BOX_BYTES", 4 * 4 * 16 * 5)
    monkeypatch.setattr(importing, "_CONVERTED_PART_VOXELS", 7)
    values = np.zeros((6, 24, 40), np.float32)
    values[5, 21, 33:] = np.nan
    with pytest.raises(InputError, match=r"voxel \[5, 21, 33\] \(z, y, x\) is nan"):
        convert([hdf5(values)], tmp_path / "V.zarr", value_range=(0, 1), block=(4, 16, 16))


@pytest.mark.parametrize(
    ("stored", "expected"),
    [("uint32", "uint32"), ("int32", "uint32"), ("uint64", "uint64"), ("int64", "uint64"), (">u8", "uint64")],
)
def test_wide_integers_are_labels(tmp_path: Path, hdf5: Callable[..., str], stored: str, expected: str) -> None:
    values = np.array([[[0, 7, np.iinfo(stored).max]]], stored)
    convert([hdf5(values)], tmp_path / "V.zarr")
    assert written(tmp_path / "V.zarr").dtype == expected
    assert np.array_equal(written(tmp_path / "V.zarr"), values)
    assert "image-label" in zarr.open_group(str(tmp_path / "V.zarr"), mode="r").attrs["ome"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_narrow_labels_are_not_scaled(tmp_path: Path, hdf5: Callable[..., str], dtype: str) -> None:
    convert([hdf5(np.array([[[0, 1, 100]]], dtype))], tmp_path / "V.zarr", labels=True)
    assert written(tmp_path / "V.zarr").dtype == np.uint32
    assert written(tmp_path / "V.zarr").ravel().tolist() == [0, 1, 100]


def test_a_negative_label_is_named_with_its_place(tmp_path: Path, hdf5: Callable[..., str]) -> None:
    with pytest.raises(InputError, match=r"voxel \[0, 1, 0\] \(z, y, x\) is -1"):
        convert([hdf5(np.array([[[5, 6], [-1, 7]]], np.int64))], tmp_path / "V.zarr")


@pytest.mark.parametrize("dtype", ["int8", "complex64"])
def test_other_types_are_refused_with_the_accepted_ones(tmp_path: Path, hdf5: Callable[..., str], dtype: str) -> None:
    with pytest.raises(InputError, match=rf"{dtype}, expected bool, uint8, uint16"):
        convert([hdf5(np.zeros((2, 3, 4), dtype))], tmp_path / "V.zarr")


@pytest.mark.parametrize("dtype", ["bool", "uint32"])
def test_a_range_for_what_is_not_scaled_is_refused(tmp_path: Path, hdf5: Callable[..., str], dtype: str) -> None:
    with pytest.raises(InputError, match=r"and --range is only for raw\nhint: omit --range"):
        convert([hdf5(np.zeros((2, 3, 4), dtype))], tmp_path / "V.zarr", value_range=(0, 10))


def test_an_empty_range_is_refused(tmp_path: Path, hdf5: Callable[..., str]) -> None:
    with pytest.raises(InputError, match="range 5 5 is empty"):
        convert([hdf5(np.zeros((2, 3, 4), np.float32))], tmp_path / "V.zarr", value_range=(5, 5))


def test_no_voxel_size_offers_the_option(tmp_path: Path, hdf5: Callable[..., str]) -> None:
    with pytest.raises(InputError, match="--voxel-size 10 10 10"):
        convert([hdf5(volume_of((2, 3, 4)))], tmp_path / "V.zarr", voxel_size_nm=None)


@pytest.mark.parametrize("size", [(0.0, 4.0, 4.0), (40.0, -4.0, 4.0), (40.0, 4.0, float("nan"))])
def test_a_voxel_size_must_be_positive(tmp_path: Path, hdf5: Callable[..., str], size: Nanometres) -> None:
    with pytest.raises(InputError, match="three positive numbers"):
        convert([hdf5(volume_of((2, 3, 4)))], tmp_path / "V.zarr", voxel_size_nm=size)


def test_an_existing_output_is_not_changed(tmp_path: Path, hdf5: Callable[..., str]) -> None:
    (tmp_path / "V.zarr").mkdir()
    (tmp_path / "V.zarr" / "precious").write_text("kept")
    with pytest.raises(InputError, match="exists\\nhint: remove it, or choose another name with -o"):
        convert([hdf5(volume_of((2, 3, 4)))], tmp_path / "V.zarr")
    assert (tmp_path / "V.zarr" / "precious").read_text() == "kept"


def test_a_missing_output_folder_is_refused(tmp_path: Path, hdf5: Callable[..., str]) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        convert([hdf5(volume_of((2, 3, 4)))], tmp_path / "nowhere" / "V.zarr")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_crash_in_the_middle_leaves_nothing(
    tmp_path: Path, hdf5: Callable[..., str], error: type[BaseException]
) -> None:
    source = hdf5(volume_of((12, 20, 20)))
    calls: list[int] = []

    def crash_on_second_slab(done: int, total: int) -> None:
        calls.append(done)
        hidden = [path.name for path in tmp_path.iterdir() if path.name.startswith(".V.zarr.partial-")]
        assert len(hidden) == 1
        assert not (tmp_path / "V.zarr").exists()
        if len(calls) == 2:
            raise error

    with pytest.raises(error):
        convert([source], tmp_path / "V.zarr", block=(4, 16, 16), progress=crash_on_second_slab)
    assert len(calls) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["source.h5"]


def test_progress_ends_with_all_voxels(tmp_path: Path, hdf5: Callable[..., str]) -> None:
    calls: list[tuple[int, int]] = []
    source = hdf5(volume_of((10, 20, 20)))
    convert([source], tmp_path / "V.zarr", block=(4, 16, 16), progress=lambda *call: calls.append(call))
    assert calls == [(1600, 4000), (3200, 4000), (4000, 4000)]
    assert all(type(number) is int for call in calls for number in call)


class CountingArray:
    """An array that remembers the voxels of each read."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values
        self.shape, self.dtype = values.shape, values.dtype
        self.reads: list[Roi] = []

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[Any]:
        begins = [part.start for part in key]
        self.reads.append(Roi(begins, [part.stop - part.start for part in key]))
        return self.values[key]


@pytest.mark.parametrize("budget_bytes", [2 * 4 * 16 * 32, 2 * 4 * 16 * 16, 2 * 4 * 32 * 48])
def test_no_read_exceeds_the_budget_and_the_whole_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget_bytes: int
) -> None:
    values = volume_of((10, 70, 50))
    array = CountingArray(values)
    monkeypatch.setattr(importing, "_BOX_BYTES", budget_bytes)
    monkeypatch.setattr(importing, "require_raw", lambda *_, **__: None)  # reads a sample, not boxes
    monkeypatch.setattr(importing, "open_any", lambda *_, **__: Volume("counted", array, VOXEL_SIZE_NM, (0, 0, 0)))
    convert(["counted"], tmp_path / "V.zarr", block=(4, 16, 16))
    assert max(read.size for read in array.reads) * 2 <= budget_bytes
    assert len(array.reads) > 3
    assert sum(read.size for read in array.reads) == values.size
    for read in array.reads:
        assert [int(begin) % step for begin, step in zip(read.begin, (4, 16, 16), strict=True)] == [0, 0, 0]
    assert np.array_equal(written(tmp_path / "V.zarr"), values)


def test_wide_sections_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = volume_of((10, 70, 50), "uint16")
    decoded: list[int] = []

    def read_section(z: int) -> NDArray[Any]:
        decoded.append(z)
        return values[z]

    stack = SectionStack("counted", (10, 70, 50), values.dtype, read_section)
    monkeypatch.setattr(importing, "_BOX_BYTES", 3 * 4 * 16 * 32)
    monkeypatch.setattr(importing, "require_raw", lambda *_, **__: None)  # decodes a sample first
    monkeypatch.setattr(importing, "open_stack", lambda *_: stack)
    convert(["s1.tif"], tmp_path / "V.zarr", block=(4, 16, 16))
    assert decoded == list(range(10))
    assert np.array_equal(written(tmp_path / "V.zarr"), importing.scaled(values, (0, 65535)))
    assert not list(tmp_path.rglob("slab"))


def test_a_volume_of_several_default_shards_equals_its_source(tmp_path: Path, hdf5: Callable[..., str]) -> None:
    values = volume_of((70, 130, 270))
    convert([hdf5(values)], tmp_path / "V.zarr")
    array = open_volume(str(tmp_path / "V.zarr")).array
    assert (array.shards, array.chunks) == ((64, 192, 256), (64, 64, 64))
    assert np.array_equal(written(tmp_path / "V.zarr"), values)


@pytest.mark.parametrize(
    ("shape", "block"),
    [
        ((1000, 5000, 5000), (64, 256, 256)),
        ((100, 100, 1000), (64, 128, 256)),
        ((40, 300, 300), (40, 256, 256)),
        ((20, 5000, 5000), (20, 512, 512)),
        ((1, 3, 5), (1, 3, 5)),
    ],
)
def test_default_shards_fit_the_volume(shape: tuple[int, int, int], block: tuple[int, int, int]) -> None:
    assert default_block(shape) == block


@pytest.mark.parametrize(
    ("most_voxels", "box"),
    [
        (10**9, (64, 1024, 1024)),
        (64 * 256 * 512, (64, 256, 512)),
        (64 * 512 * 1024, (64, 512, 1024)),
        (1, (64, 256, 256)),
    ],
)
def test_boxes_grow_along_x_first(most_voxels: int, box: tuple[int, int, int]) -> None:
    assert box_shape((100, 1000, 1000), (64, 256, 256), most_voxels) == box
