"""Unsupported formats are named, with a hint at the conversion."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from neuroseg.cli.main import exit_code
from neuroseg.errors import InputError
from neuroseg.storage.remote import is_remote
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.affinity_source import open_affinities
from neuroseg.volumes.foreign import refuse_foreign


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("a.mrc", "mrcfile.read('{path}')"),
        ("a.rec", "mrcfile.read('{path}')"),
        ("a.nrrd", "nrrd.read('{path}')[0].T"),
        ("a.nii.gz", "nibabel.load('{path}').dataobj).T, photometric="),
        ("a.npy", "numpy.load('{path}')"),
        ("a.czi", "bioformats2raw {path} a.ome.zarr"),
        ("a.dm4", "Fiji"),
        ("a.zarr.zip", "unzip {path}"),
        ("a.jpg", "magick mogrify -format png {path}"),
        ("a.mp4", "ffmpeg -i {path}"),
    ],
)
@pytest.mark.parametrize("command", ["info", "import"])
def test_each_file_format_has_a_hint(
    command: str, name: str, fix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(bytes(2048))
    more = ["-o", str(tmp_path / "o.zarr"), "--voxel-size", "40", "4", "4"] if command == "import" else []
    assert exit_code([command, str(path), *more]) == 2
    assert fix.format(path=path) in capfd.readouterr().err
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("marker", "content", "named"),
    [
        ("info", {"@type": "neuroglancer_multiscale_volume"}, "a precomputed dataset"),
        ("attributes.json", {"n5": "2.5.0"}, "an N5 container"),
        ("datasource-properties.json", {}, "a WEBKNOSSOS dataset"),
    ],
)
def test_each_folder_format_has_a_hint(marker: str, content: dict[str, str], named: str, tmp_path: Path) -> None:
    (tmp_path / marker).write_text(json.dumps(content))
    with pytest.raises(InputError, match=named):
        open_any(str(tmp_path))
    with pytest.raises(InputError, match=named):
        refuse_foreign(str(tmp_path), stacks=True)


@pytest.mark.parametrize("arguments", [["info"], ["run"], ["segment", "-o", "w", "--boundaries"]])
def test_a_tiff_has_a_hint_to_import_it(
    arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("x.tif", np.zeros((5, 8, 8), np.uint8))
    assert exit_code([*arguments, "x.tif"]) == 2
    message = capfd.readouterr().err
    assert "neuroseg import " in message
    assert "x.tif -o x.zarr --voxel-size Z Y X" in message


def test_a_tiff_as_truth_has_a_hint_to_import_it_as_labels(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    zarr.create_array(str(tmp_path / "s.zarr"), shape=(5, 8, 8), dtype="u8", attributes={"voxel_size": [9, 9, 9]})
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((5, 8, 8), np.uint8))
    assert exit_code(["evaluate", str(tmp_path / "s.zarr"), "--truth", str(tmp_path / "x.tif")]) == 2
    assert "add --labels" in capfd.readouterr().err


def test_a_zarr_is_a_zarr_whatever_its_name(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a.mrc"), shape=(4, 8, 8), dtype="u1", attributes={"voxel_size": [9, 9, 9]})
    assert open_any(str(tmp_path / "a.mrc")).shape == (4, 8, 8)


@pytest.mark.parametrize(
    ("address", "fix"),
    [
        ("zarr://s3://x/v.zarr", "hint: use the address without zarr://: s3://x/v.zarr"),
        ("file:///data/v.zarr", "hint: use the path: /data/v.zarr"),
        ("precomputed://gs://x/y", "driver neuroglancer_precomputed"),
        ("n5://x", "driver n5"),
        ("ftp://x", "valid: s3://"),
    ],
)
def test_unsupported_addresses_have_a_hint(address: str, fix: str) -> None:
    with pytest.raises(InputError, match="is not supported") as raised:
        is_remote(address)
    assert fix in str(raised.value)


def test_affinities_in_a_group_are_named(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    group.create_array("affs", shape=(3, 4, 5, 6), dtype="u1")
    group.create_array("raw", shape=(4, 5, 6), dtype="u1")
    with pytest.raises(
        InputError,
        match=r"is a group, .*\nhint: give the path of an array inside: .*g\.zarr/affs \(3, 4, 5, 6\), .*g\.zarr/raw",
    ):
        open_affinities(str(tmp_path / "g.zarr"), None, None)
    zarr.open_group(str(tmp_path / "empty.zarr"), mode="w")
    with pytest.raises(InputError, match="a group without arrays"):
        open_affinities(str(tmp_path / "empty.zarr"), None, None)


def test_affinities_in_hdf5_come_with_the_command_that_copies_them(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["a/affs"] = np.zeros((3, 4, 5, 6), np.uint8)
    with pytest.raises(InputError) as raised:
        open_affinities(f"{tmp_path}/f.h5:a/affs", None, None)
    code = str(raised.value).split('python -c "')[1].split('"')[0]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert zarr.open_array(str(tmp_path / "affinities.zarr"), mode="r").shape == (3, 4, 5, 6)
    with pytest.raises(InputError, match="is an HDF5 file"):
        open_affinities(f"{tmp_path}/f.h5", None, None)
