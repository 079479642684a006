"""The layers of workspaces and volumes, and when they are outdated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from funlib.geometry import Roi
from scipy import ndimage

from neuroseg.checks.score import Request, score
from neuroseg.errors import InputError
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from neuroseg.viewer.initial_state import contrast
from neuroseg.viewer.layers import layers_at
from neuroseg.viewer.session import Session

SIZE = {"voxel_size": [10, 10, 10]}


def made(path: Path, values: np.ndarray, **more: object) -> str:
    array = zarr.create_array(str(path), shape=values.shape, dtype=values.dtype, attributes={**SIZE, **more})
    array[:] = values
    return str(path)


def boundaries(shape: tuple[int, ...]) -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(5).random(shape), 1.5)
    return np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def segmented(folder: Path, **more: object) -> Workspace:
    values = boundaries((24, 40, 40))
    given = {"boundaries": made(folder / "B.zarr", values), "output": str(folder / "w"), "blocks": "24,20,20"}
    made(folder / "T.zarr", ndimage.label(values < 128)[0].astype(np.uint32))
    return pipeline.segment(Options.model_validate({**given, "executor": "serial", **more}))[0]


def test_scores_of_a_region_count_the_region_alone(tmp_path: Path) -> None:
    workspace = segmented(tmp_path, roi="0:24,0:40,10:30")
    session = Session(str(workspace.path), str(tmp_path / "T.zarr"))
    begun = session.beginning()
    found = session.described_cut(begun["threshold"], begun["min_size"])
    expected = score(Request(str(workspace.path), str(tmp_path / "T.zarr")))
    assert found["voi_split"] == pytest.approx(expected["voi_split"])
    assert found["voi_merge"] == pytest.approx(expected["voi_merge"])


def test_a_threshold_is_exact(tmp_path: Path) -> None:
    workspace = segmented(tmp_path, threshold=0.123)
    begun = Session(str(workspace.path), None).beginning()
    assert begun["threshold"] == 0.123
    urls = [layer["source"]["url"] for layer in begun["state"]["layers"]]
    assert any("/segmentation/t0.123-m0-" in url for url in urls)


def test_a_session_is_outdated_when_there_is_something_else_to_show(tmp_path: Path) -> None:
    workspace = segmented(tmp_path)
    session = Session(str(workspace.path), None)
    assert not session.is_outdated()
    pipeline.segment(Options(volume=str(workspace.path), executor="serial", threshold=0.31))
    assert session.is_outdated()
    newest = Session(str(workspace.path), None)
    assert newest.stamp != session.stamp
    assert newest.beginning()["threshold"] == 0.31


def test_blocks_that_a_run_predicts_later_appear(tmp_path: Path, tiny_model: str) -> None:
    given = {"volume": made(tmp_path / "V.zarr", boundaries((16, 32, 32))), "model": tiny_model, "executor": "serial"}
    workspace, _ = pipeline.predict(Options.model_validate({**given, "output": str(tmp_path / "w"), "blocks": "16"}))
    read = layers_at(str(workspace.path), None).layers["affinities"].read
    stored = open_array(workspace.affinities, writable=True)
    roi, before = Roi((3, 0, 0), (1, 32, 32)), np.asarray(stored[:])
    for values in (np.zeros_like(before), before):
        stored[:] = values
        np.testing.assert_array_equal(read(roi), values[:, 3:4])


def test_affinities_are_shown_as_z_y_x_in_any_order_of_channels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (4, 8, 16, 16), np.uint8)
    offsets = [[0, -9, 0], [0, 0, -1], [0, -1, 0], [-1, 0, 0]]
    path = made(tmp_path / "A.zarr", values, offsets=offsets)
    workspace, _ = pipeline.segment(Options(affinities=path, output=str(tmp_path / "w"), blocks="8", executor="serial"))
    layer = layers_at(str(workspace.path), None).layers["affinities"]
    np.testing.assert_array_equal(layer.read(Roi((0, 0, 0), (8, 16, 16))), values[[3, 2, 1]])


def test_a_workspace_without_a_tree_has_its_errors(tmp_path: Path) -> None:
    workspace = segmented(tmp_path, keep="segmentation")
    session = Session(str(workspace.path), str(tmp_path / "T.zarr"))
    assert list(session.shown.layers) == ["affinities", "segmentation", "truth"]
    assert session.beginning()["threshold"] is None
    assert session.places()["places"]
    with pytest.raises(KeyError):
        session.described_cut(0.5, 0)


def test_a_tree_shows_segments_before_labels_are_written(tmp_path: Path) -> None:
    import shutil

    workspace = segmented(tmp_path)
    shutil.rmtree(workspace.segmentation)
    session = Session(str(workspace.path), None)
    version = session.cut(0.4, 0).version
    found = np.frombuffer(session.chunk("segmentation", version, 0, "0-40_0-40_5-6"), "<u8")
    assert found.any()


@pytest.mark.parametrize("dtype", [bool, np.int16, np.float32, np.uint64])
def test_the_contrast_of_any_type_is_a_range(tmp_path: Path, dtype: type) -> None:
    values = (boundaries((8, 16, 16)) > 128).astype(dtype)
    layer = next(iter(layers_at(made(tmp_path / "V.zarr", values), None).layers.values()))
    low, high = contrast(layer)
    assert low < high


def test_a_volume_without_a_voxel_size_is_refused(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "V.zarr"), shape=(4, 4, 4), dtype="u1")
    with pytest.raises(InputError, match=r"has no voxel size\nhint: give the array an attribute voxel_size"):
        layers_at(str(tmp_path / "V.zarr"), None)
