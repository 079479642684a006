"""Damaged and hostile files are refused in one sentence, before anything waits for them or decodes them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from neuroseg.cli.main import exit_code
from neuroseg.errors import InputError
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.volume import Volume

VALUES = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


def stored(path: Path, zarr_format: int = 3) -> Path:
    array = zarr.create_array(
        str(path), shape=VALUES.shape, dtype="u1", chunks=(2, 4, 5), zarr_format=zarr_format,
        attributes={"voxel_size": [10, 10, 10]},
    )  # fmt: skip
    array[:] = VALUES
    return path


def replaced(file: Path, make: Callable[[Path], None]) -> None:
    file.unlink()
    make(file)


def whole(volume: Volume) -> np.ndarray:
    return volume.read(volume.roi)


@pytest.mark.parametrize("name", ["zarr.json", ".zarray", ".zattrs"])
@pytest.mark.parametrize(
    ("content", "expected_text"),
    [
        (b"[1, 2]", "contains a list, expected a mapping"),
        (b"[" * 100_000, "nests its brackets too deeply"),
        (b'{"attributes": ' * 100_000, "nests its brackets too deeply"),
        (b"", "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
    ],
)
def test_metadata_that_are_not_a_mapping_are_refused(
    name: str, content: bytes, expected_text: str, tmp_path: Path
) -> None:
    path = stored(tmp_path / "V.zarr", 3 if name == "zarr.json" else 2)
    (path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"is not a zarr array or group: {name} {expected_text}"):
        open_any(str(path))


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
@pytest.mark.parametrize("file", ["zarr.json", "c/0/0/0"])
def test_only_regular_files_are_opened(kind: str, file: str, tmp_path: Path) -> None:
    path = stored(tmp_path / "V.zarr")
    made = {"fifo": os.mkfifo, "device": lambda at: at.symlink_to("/dev/zero"), "folder": Path.mkdir}
    replaced(path / file, made[kind])
    with pytest.raises(InputError, match=f"(?i)is a {kind}, expected a"):
        whole(open_any(str(path)))


def test_a_link_to_a_file_is_a_file(tmp_path: Path) -> None:
    path = stored(tmp_path / "V.zarr")
    os.rename(path / "c/0/0/0", tmp_path / "elsewhere")
    (path / "c/0/0/0").symlink_to(tmp_path / "elsewhere")
    assert np.array_equal(whole(open_any(str(path))), VALUES)


@pytest.mark.parametrize(
    ("shape", "chunks", "expected_text"),
    [
        ([3, 4, 5], [0, 4, 5], "V.zarr"),
        ([2**31, 2**31, 2], [64, 64, 64], "expected at most 2^63 voxels"),
        ([10**9, 10**9, 10**9], [64, 64, 64], "expected at most 2^63 voxels"),
    ],
)
def test_shapes_with_too_many_voxels_are_refused(
    shape: list[int], chunks: list[int], expected_text: str, tmp_path: Path
) -> None:
    for name, zarr_format in (("zarr.json", 3), (".zarray", 2)):
        path = stored(tmp_path / f"{zarr_format}" / "V.zarr", zarr_format)
        described = json.loads((path / name).read_text())
        described["shape"] = shape
        if zarr_format == 2:
            described["chunks"] = chunks
        else:
            described["chunk_grid"]["configuration"]["chunk_shape"] = chunks
        (path / name).write_text(json.dumps(described))
        with pytest.raises(InputError, match=expected_text.replace("^", r"\^")):
            open_any(str(path))


def test_members_of_a_group_that_are_no_files(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "G.zarr"), mode="w", zarr_format=3)
    group.create_array("other", shape=(2, 2, 2), dtype="u1")
    (tmp_path / "G.zarr" / "raw").mkdir()
    os.mkfifo(tmp_path / "G.zarr" / "raw" / "zarr.json")
    with pytest.raises(InputError, match="is a FIFO"):
        open_any(str(tmp_path / "G.zarr"))


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A file with a dataset and every kind of link to other files."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    for folder in (inside, outside):
        with h5py.File(folder / "part.h5", "w") as file:
            file["raw"] = VALUES
        (folder / "voxels.bin").write_bytes(VALUES.tobytes())
    os.mkfifo(inside / "fifo.h5")
    with h5py.File(inside / "V.h5", "w") as file:
        file["group/raw"] = VALUES
        file["group/again"] = file["group"]
        file["soft"] = h5py.SoftLink("group/raw")
        file["loop"], file["pool"] = h5py.SoftLink("/pool"), h5py.SoftLink("/loop")
        file["near"] = h5py.ExternalLink("part.h5", "/raw")
        file["far"] = h5py.ExternalLink(str(outside / "part.h5"), "/raw")
        file["up"] = h5py.ExternalLink("../out/part.h5", "/raw")
        file["fifo"] = h5py.ExternalLink("fifo.h5", "/raw")
        parts = [(str(outside / "voxels.bin"), 0, VALUES.nbytes)]
        file.create_dataset("apart", shape=VALUES.shape, dtype="u1", external=parts)
        file.create_dataset("device", shape=VALUES.shape, dtype="u1", external=[("/dev/zero", 0, VALUES.nbytes)])
        for name, source in (("virtual", outside / "part.h5"), ("put together", "part.h5")):
            layout = h5py.VirtualLayout(VALUES.shape, "u1")
            layout[:] = h5py.VirtualSource(str(source), "raw", VALUES.shape)
            file.create_virtual_dataset(name, layout)
    return inside / "V.h5"


@pytest.mark.parametrize("name", ["group/raw", "soft", "near", "group/again/again/raw", "put together"])
def test_links_within_the_folder_are_followed(name: str, linked: Path) -> None:
    assert np.array_equal(whole(open_any(f"{linked}:{name}")), VALUES)


@pytest.mark.parametrize(
    ("name", "expected_text"),
    [
        ("loop", "leads through more than 32 links"),
        ("loop/raw", "leads through more than 32 links"),
        ("far", "links to .*out/part.h5, expected files inside"),
        ("up", "links to .*out/part.h5, expected files inside"),
        ("fifo", "fifo.h5 is a FIFO, expected a regular file"),
        ("apart", "voxels.bin, expected files inside"),
        ("device", "/dev/zero, expected files inside"),
        ("virtual", "links to .*out/part.h5, expected files inside"),
        ("none", "has no dataset 'none' .*group/raw"),
        ("group/raw/deeper", "has no dataset"),
    ],
)
def test_links_that_lead_elsewhere_are_refused(
    name: str, expected_text: str, linked: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=expected_text):
        open_any(f"{linked}:{name}")
    assert exit_code(["info", f"{linked}:{name}"]) == 2
    assert capfd.readouterr().err.startswith("error: ")


def test_a_pipe_in_the_place_of_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "V.h5")
    with pytest.raises(InputError, match="is a FIFO"):
        open_any(f"{tmp_path}/V.h5:raw")
