"""Voxel sizes that TIFF files state: those of ImageJ and OME, in any unit of length; never dots per inch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tifffile
from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.volumes.selection import WHOLE_FILE, Selection
from neuroseg.volumes.stacks import SectionStack, open_stack
from tests.volumes.tiffs import values_of


def stated_size(path: Path, selection: Selection = WHOLE_FILE) -> Any:
    """Return the voxel size that a file states."""
    stack: SectionStack = open_stack([str(path)], selection)
    stack.close()
    return stack.voxel_size_nm()


UNITS = [("nm", 1), ("um", 1e3), ("micron", 1e3), ("microns", 1e3), ("\\u00B5m", 1e3), ("mm", 1e6), ("nanometer", 1)]


@pytest.mark.parametrize(("unit", "nanometres"), UNITS)
def test_imagej_states_a_voxel_size(tmp_path: Path, unit: str, nanometres: float) -> None:
    tifffile.imwrite(
        tmp_path / "i.tif", values_of("ZYX"), imagej=True, resolution=(1 / 4, 1 / 8),
        metadata={"axes": "ZYX", "spacing": 40, "unit": unit},
    )  # fmt: skip
    assert stated_size(tmp_path / "i.tif") == pytest.approx((40 * nanometres, 8 * nanometres, 4 * nanometres))


@pytest.mark.parametrize("unit", ["pixel", "inch", "", "cubit"])
def test_units_that_are_no_length_of_a_microscope_state_nothing(tmp_path: Path, unit: str) -> None:
    tifffile.imwrite(
        tmp_path / "i.tif", values_of("ZYX"), imagej=True, resolution=(72, 72),
        metadata={"axes": "ZYX", "spacing": 1, "unit": unit},
    )  # fmt: skip
    assert stated_size(tmp_path / "i.tif") is None


def test_two_units_of_resolution_state_nothing_across_a_section(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "i.tif", values_of("ZYX"), imagej=True, resolution=(250, 250), resolutionunit="CENTIMETER",
        metadata={"axes": "ZYX", "spacing": 0.04, "unit": "um"},
    )  # fmt: skip
    with pytest.raises(InputError, match=r"\(z 40 nm\).*\nhint: .*--voxel-size 40 Y X"):
        stated_size(tmp_path / "i.tif")


def test_resolution_tags_alone_state_nothing(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "r.tif", values_of("ZYX"), resolution=(72, 72), resolutionunit="INCH")
    assert stated_size(tmp_path / "r.tif") is None


def test_a_missing_spacing_is_asked_for(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "i.tif", values_of("ZYX"), imagej=True, resolution=(250, 250), metadata={"axes": "ZYX", "unit": "um"}
    )
    with pytest.raises(InputError, match=r"part of .* \(y 4 nm, x 4 nm\), expected z.*\nhint: .*--voxel-size Z 4 4"):
        stated_size(tmp_path / "i.tif")


def write_ome(path: Path, values: NDArray[Any], **sizes: Any) -> None:
    """Write an OME-TIFF with physical sizes."""
    metadata = {"axes": "ZYX"[3 - values.ndim :], **sizes}
    tifffile.imwrite(path, values, ome=True, photometric="minisblack", metadata=metadata)


def test_ome_states_a_voxel_size_in_micrometres_or_its_units(tmp_path: Path) -> None:
    sizes = {"PhysicalSizeZ": 0.04, "PhysicalSizeY": 8, "PhysicalSizeX": 4}
    write_ome(tmp_path / "o.tif", values_of("ZYX"), **sizes, PhysicalSizeYUnit="nm", PhysicalSizeXUnit="nm")
    assert stated_size(tmp_path / "o.tif") == pytest.approx((40, 8, 4))
    write_ome(tmp_path / "p.tif", values_of("ZYX"), **sizes, PhysicalSizeYUnit="nm", PhysicalSizeXUnit="pixel")
    with pytest.raises(InputError, match=r"\(z 40 nm, y 8 nm\)"):
        stated_size(tmp_path / "p.tif")


def test_each_image_has_its_own_voxel_size(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "s.tif", ome=True) as writer:
        for size in (1, 2):
            metadata = {"axes": "ZYX", **{f"PhysicalSize{axis}": size for axis in "XYZ"}}
            writer.write(values_of("ZYX"), photometric="minisblack", metadata=metadata)
    assert stated_size(tmp_path / "s.tif", Selection(series=1)) == (2000, 2000, 2000)


def test_files_of_a_stack_state_a_voxel_size_where_they_agree(tmp_path: Path) -> None:
    for z, section in enumerate(values_of("ZYX")[:3]):
        write_ome(tmp_path / f"s{z}.tif", section, PhysicalSizeX=4, PhysicalSizeY=4, PhysicalSizeZ=1 + (z == 2))
    with pytest.raises(InputError, match=r"\(y 4000 nm, x 4000 nm\)"):
        stated_size(tmp_path)
    (tmp_path / "s2.tif").unlink()
    assert stated_size(tmp_path) == (1000, 4000, 4000)


def test_a_renamed_axis_takes_no_spacing_of_another(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "t.tif", values_of("TYX"), imagej=True, resolution=(250, 250),
        metadata={"axes": "TYX", "unit": "um", "spacing": 1},
    )  # fmt: skip
    with pytest.raises(InputError, match=r"\(y 4 nm, x 4 nm\)"):
        stated_size(tmp_path / "t.tif", Selection(axes="zyx"))
