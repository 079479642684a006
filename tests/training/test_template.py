"""`train --template` writes a valid configuration and refuses raw and labels that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
import zarr
from funlib.geometry import Roi
from hypothesis import given
from hypothesis import strategies as st

from neuroseg.cli.main import exit_code
from neuroseg.errors import InputError
from neuroseg.networks.bundle import open_bundle
from neuroseg.training.data.value_checks import require_labels, require_raw
from neuroseg.training.template import labelled_extent, recipe_for, split, write_template
from neuroseg.training.train import open_training
from neuroseg.views.synthetic import synthetic_volume
from neuroseg.volumes.addresses import open_any

SHAPE = (48, 56, 64)


def store(path: Path, array: np.ndarray, **attributes: object) -> str:
    stored = zarr.create_array(
        str(path), shape=array.shape, dtype=array.dtype, attributes={"voxel_size": [10, 10, 10], **attributes}
    )
    stored[:] = array
    return str(path)


@pytest.fixture(scope="module")
def tissue() -> Any:
    return synthetic_volume(SHAPE, 1)


@pytest.fixture
def pair(tissue: Any, tmp_path: Path) -> tuple[str, str]:
    """Raw and labels. The outer labels are 0."""
    labels = np.zeros_like(tissue.labels)
    labels[4:44, 6:50, :] = tissue.labels[4:44, 6:50, :]
    return store(tmp_path / "raw.zarr", tissue.raw), store(tmp_path / "labels.zarr", labels)


def refused(tmp_path: Path, raw: str, labels: str) -> str:
    with pytest.raises(InputError) as failed:
        write_template(raw, labels, tmp_path / "mine.yaml")
    assert not (tmp_path / "mine.yaml").exists()
    return str(failed.value)


def test_the_labelled_part_is_split_and_paths_are_relative(
    pair: tuple[str, str], tissue: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "configs").mkdir()
    monkeypatch.chdir(tmp_path)
    known = tissue.labels[4:44, 6:50] != 0
    ends = [np.flatnonzero(known.any(axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    (z, y, x) = [(int(each[0]) + low, int(each[-1]) + 1 + low) for each, low in zip(ends, (4, 6, 0), strict=True)]
    cut = x[1] - (x[1] - x[0]) // 4
    command = ["train", "--template", "raw.zarr", "labels.zarr", "-o", "configs/mine.yaml", "--json"]
    assert exit_code(command) == 0
    said = json.loads(capsys.readouterr().out)
    content = yaml.safe_load((tmp_path / "configs" / "mine.yaml").read_text())
    assert "extends" not in content
    (training,), validation = content["data"]["training"], content["data"]["validation"]
    assert (training["raw"], training["labels"]) == ("../raw.zarr", "../labels.zarr")
    assert training["voxel_size_nm"] == [10, 10, 10]
    assert training["region"] == said["training"] == f"{z[0]}:{z[1]},{y[0]}:{y[1]},{x[0]}:{cut}"
    assert validation["region"] == said["validation"] == f"{z[0]}:{z[1]},{y[0]}:{y[1]},{cut}:{x[1]}"
    monkeypatch.chdir("/")
    opened = open_training(tmp_path / "configs" / "mine.yaml")
    assert opened.settings.network.architecture == "light"
    assert Path(opened.training[0].raw.path).resolve() == tmp_path / "raw.zarr"


@pytest.mark.parametrize(("voxel_size", "network"), [([10, 10, 10], "light"), ([40, 4, 4], "superhuman")])
def test_a_template_trains(
    voxel_size: list[float], network: str, tissue: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trains the template with two steps, a small network and small tiles."""
    monkeypatch.chdir(tmp_path)
    with h5py.File("v.h5", "w") as file:
        file["raw"], file["labels"] = tissue.raw, tissue.labels
    size = [str(edge) for edge in voxel_size]
    command = ["train", "--template", "v.h5:raw", "v.h5:labels", "-o", "mine.yaml", "--voxel-size", *size]
    assert exit_code(command) == 0
    content = yaml.safe_load(Path("mine.yaml").read_text())
    assert content["network"]["architecture"] == network
    content["network"]["parameters"] = {"widths": [4, 4, 4, 4] if network == "light" else [2, 2, 2, 2, 2]}
    content["optimiser"] |= {"steps": 2, "batch": 1, "precision": "float32"}
    tile = {"tile_voxels": [16, 16, 16], "context_voxels": [8, 8, 8]}
    content["validation"] |= {"statistics_samples": 0, "surround_voxels": [0, 0, 0], **tile}
    Path("mine.yaml").write_text(yaml.safe_dump(content))
    assert exit_code(["train", "mine.yaml", "-o", "runs/mine", "--device", "cpu"]) == 0
    assert open_bundle("runs/mine/bundle").card.voxel_size_nm == tuple(voxel_size)


@pytest.mark.parametrize(
    ("file", "labels", "network"),
    [("fib25_ts2.h5", "neuron_ids_cc", "light"), ("isbi2012_vnc.h5", "neuron_ids_cc", "superhuman")],
)
def test_real_volumes_have_a_template(file: str, labels: str, network: str, data_folder: Path, tmp_path: Path) -> None:
    raw, truth = f"{data_folder / file}:raw", f"{data_folder / file}:{labels}"
    made = write_template(raw, truth, tmp_path / "mine.yaml")
    opened = open_training(tmp_path / "mine.yaml")
    assert made.network == opened.settings.network.architecture == network
    whole = opened.training[0].raw.roi
    assert opened.training[0].region.size + opened.validation.region.size == whole.size, "all of it is labelled"


def test_raw_and_labels_that_do_not_fit_are_refused(pair: tuple[str, str], tissue: Any, tmp_path: Path) -> None:
    raw, labels = pair
    assert "values that look like labels\nhint: check whether raw and labels" in refused(tmp_path, labels, raw)
    assert "have the same address" in refused(tmp_path, raw, raw)
    smaller = store(tmp_path / "smaller.zarr", tissue.labels[:-1])
    assert "hint: use labels of the same shape, or give them an attribute offset" in refused(tmp_path, raw, smaller)
    coarse = store(tmp_path / "coarse.zarr", tissue.labels, voxel_size=[20, 20, 20])
    assert "have voxels of (20.0, 20.0, 20.0) nm" in refused(tmp_path, raw, coarse)
    outside = store(tmp_path / "outside.zarr", tissue.labels[:8], offset=[440, 0, 0])
    assert "do not fit" in refused(tmp_path, raw, outside)
    noise = store(tmp_path / "noise.zarr", tissue.raw[::-1].copy())
    assert "look like an image, not like labels" in refused(tmp_path, raw, noise)
    floats = store(tmp_path / "floats.zarr", tissue.labels.astype(np.float32))
    assert "contain float32 values, expected integer ids" in refused(tmp_path, raw, floats)
    nothing = store(tmp_path / "nothing.zarr", np.zeros_like(tissue.labels))
    assert "are all 0" in refused(tmp_path, raw, nothing)
    little = np.zeros_like(tissue.labels)
    little[:5, :9, :12] = 7
    assert "only 0:5,0:9,0:12 is labelled: 12 voxels along x are too few" in refused(
        tmp_path, raw, store(tmp_path / "little.zarr", little)
    )


def test_labels_inside_raw_are_split_in_place(pair: tuple[str, str], tissue: Any, tmp_path: Path) -> None:
    inner = store(tmp_path / "inner.zarr", np.ones((5, 20, 40), np.uint64), offset=[200, 100, 0])
    made = write_template(pair[0], inner, tmp_path / "mine.yaml")
    assert (made.training, made.validation) == ("20:25,10:30,0:30", "20:25,10:30,30:40")
    (volume,) = open_training(tmp_path / "mine.yaml").settings.data.training
    assert volume.surround_voxels == (19, 20, 10), "patches of 24 x 40 x 40 show raw around five sections"


def test_existing_files_are_kept(pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    command = ["train", "--template", *pair, "-o"]
    for output, message in (
        (path, "already exists\nhint: choose another"),
        (tmp_path / "mine.txt", "ends in .txt, expected .yaml"),
        (tmp_path / "no" / "mine.yaml", "does not exist"),
    ):
        assert exit_code([*command, str(output)]) == 2
        assert message in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert exit_code(command[:-1]) == 2
    assert "-o mine.yaml" in capsys.readouterr().err
    assert exit_code([*command, str(tmp_path / "other.yaml"), "--dry-run"]) == 2
    assert exit_code(["train", str(path), "--voxel-size", "1", "1", "1"]) == 2
    assert not (tmp_path / "other.yaml").exists()


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 900), st.integers(16, 900)),
    st.sampled_from([(10.0, 10.0, 10.0), (40.0, 4.0, 4.0), (8.0, 8.0, 6.0)]),
)
def test_training_and_validation_cover_the_labelled_box(shape: tuple[int, int, int], size: Any) -> None:
    recipe = recipe_for(size, shape)
    extent = Roi((3, 5, 7), shape)
    if max(shape[axis] for axis in range(3)) < 16:
        return
    try:
        training, validation = split(extent, recipe.patch)
    except InputError:
        return  # too short to split
    assert training.intersect(validation).empty
    assert training.union(validation) == extent
    assert training.size + validation.size == extent.size
    assert validation.size / extent.size == pytest.approx(0.25, abs=0.06)


def test_exchanged_raw_and_labels_are_refused(pair: tuple[str, str], tmp_path: Path) -> None:
    raw, labels = (open_any(each) for each in pair)
    require_raw(raw)
    require_labels(labels)
    few = open_any(store(tmp_path / "few.zarr", np.arange(120, dtype=np.uint32).reshape(4, 5, 6)))
    require_labels(few)  # too few voxels to judge
    black = open_any(store(tmp_path / "black.zarr", np.zeros(SHAPE, np.uint8)))
    with pytest.raises(InputError, match=r"every sampled voxel is 0\nhint: check that the copy is complete"):
        require_raw(black)
    ids = open_any(store(tmp_path / "ids.zarr", (labels.read(labels.roi) % 251).astype(np.uint8)))
    with pytest.raises(InputError, match=r"look like labels, not like raw.*\nhint: check whether raw and labels"):
        require_raw(ids)


def test_the_largest_id_means_no_label(pair: tuple[str, str], tmp_path: Path) -> None:
    """2^64 - 1, as in CREMI."""
    labels = np.full(SHAPE, np.iinfo(np.uint64).max, np.uint64)
    labels[10:30, 2, 3:50] = 4
    made = write_template(pair[0], store(tmp_path / "marked.zarr", labels), tmp_path / "mine.yaml")
    assert made.training.startswith("10:30,2:3,3:") or made.training.startswith("10:25,2:3,")
    opened = open_training(tmp_path / "mine.yaml").training[0]
    assert labelled_extent(opened).size == opened.region.size
