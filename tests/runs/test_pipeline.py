"""Whole runs: resume, refusal, regions, thresholds, given affinities."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from funlib.geometry import Roi
from scipy import ndimage

from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.errors import InputError, RunRefusedError
from neuroseg.fragments.settings import BasinSettings
from neuroseg.runs import groups, pipeline
from neuroseg.runs.in_memory import segmentation_of
from neuroseg.runs.options import Options
from neuroseg.runs.stages import StageSummary, run_stages
from neuroseg.storage.arrays import open_array
from neuroseg.storage.parts import read_parts, read_table
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import EDGES, TREE, combined
from neuroseg.volumes.volume import open_volume
from tests.conftest import temporary_kept

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
SHAPE = (30, 44, 37)


@pytest.fixture(scope="module")
def affinities(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Smooth random affinities on disk, as float32, with funlib's attributes."""
    path = str(tmp_path_factory.mktemp("affinities") / "A.zarr")
    smooth = ndimage.gaussian_filter(np.random.default_rng(5).random((3, *SHAPE)), (0, 1.5, 2, 2))
    values = ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)
    attributes = {"offsets": OFFSETS, "voxel_size": [20, 10, 10], "offset": [0, 40, 0]}
    array = zarr.create_array(path, shape=values.shape, dtype="f4", attributes=attributes)
    array[:] = values
    return path


@pytest.fixture(scope="module")
def whole(affinities: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished segmentation in blocks of 16 at the threshold 0.3."""
    return segment(affinities, tmp_path_factory.mktemp("whole") / "w", blocks="16", threshold=0.3)


@pytest.fixture(scope="module")
def coarse(affinities: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same at the threshold 0.6, computed from the beginning."""
    return segment(affinities, tmp_path_factory.mktemp("coarse") / "w", blocks="16", threshold=0.6)


@pytest.fixture
def made(whole: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished segmentation to change."""
    shutil.copytree(whole.path, tmp_path / "w")
    return Workspace(tmp_path / "w")


def segment(source: str, workspace: Path, **more: object) -> Workspace:
    given = {"affinities": source, "output": str(workspace), "executor": "serial", **more}
    return pipeline.segment(Options.model_validate(given))[0]


def labels(workspace: Workspace) -> np.ndarray:
    return np.asarray(open_array(workspace.segmentation / "0")[:])


def edge_table(workspace: Workspace) -> dict[str, np.ndarray]:
    blocks = sorted(int(path.stem) for path in workspace.edges.iterdir())
    return combined(read_parts(workspace.edges, blocks, EDGES), EDGES)


@pytest.mark.parametrize("scoring", ["mean", "quantile:50", "quantile:75:all"])
def test_blockwise_equals_in_memory(affinities: str, tmp_path: Path, scoring: str) -> None:
    made = segment(affinities, tmp_path / "w", blocks="13,16,20", scoring=scoring, threshold=0.45)
    stored = zarr.open_array(affinities, mode="r")[:]
    expected = segmentation_of(
        np.floor(stored * np.float32(255) + np.float32(0.5)).astype(np.uint8),
        OFFSETS,
        BasinSettings((20, 10, 10)),
        scoring=parse_scoring(scoring),
        threshold=0.45,
    )
    assert len(np.unique(expected)) > 5
    assert np.array_equal(labels(made), expected)


def test_all_artifacts_are_equal_for_any_blocks(affinities: str, tmp_path: Path) -> None:
    one, other = (segment(affinities, tmp_path / n, blocks=b) for n, b in (("a", "64"), ("b", "7,19,32")))
    assert np.array_equal(open_array(one.fragments)[:], open_array(other.fragments)[:])
    trees = (read_table(one.tree, TREE), read_table(other.tree, TREE))
    for first, second in ((edge_table(one), edge_table(other)), trees):
        for name, column in first.items():
            assert np.array_equal(column, second[name]), name
    assert np.array_equal(labels(one), labels(other))


def test_the_segmentation_lies_where_its_input_lies(affinities: str, tmp_path: Path) -> None:
    volume = open_volume(str(segment(affinities, tmp_path / "w").segmentation))
    assert (volume.voxel_size_nm, volume.offset_nm) == ((20, 10, 10), (0, 40, 0))


def test_a_finished_run_does_nothing_again(affinities: str, tmp_path: Path) -> None:
    segment(affinities, tmp_path / "w", blocks="16")
    given = {"affinities": affinities, "output": str(tmp_path / "w"), "executor": "serial", "blocks": "16"}
    _, summaries = pipeline.segment(Options.model_validate(given))
    assert [summary.blocks for summary in summaries] == [0] * len(summaries)


def test_another_threshold_redoes_only_the_segmentation(made: Workspace, coarse: Workspace) -> None:
    before = labels(made)
    _, summaries = pipeline.segment(Options(volume=str(made.path), threshold=0.6))
    assert [s.stage for s in summaries if s.blocks] == ["lookup", "relabel"]
    after = labels(made)
    assert after.max() < before.max()
    assert np.array_equal(after, labels(coarse))


@pytest.mark.parametrize(("key", "value"), [("scoring", "quantile:50"), ("blocks", "20"), ("per_section", "on")])
def test_a_changed_parameter_is_refused_and_restart_redoes_it(
    affinities: str, made: Workspace, tmp_path: Path, key: str, value: str
) -> None:
    with pytest.raises(RunRefusedError, match="->"):
        segment(affinities, made.path, **{"blocks": "16", key: value})
    changed = {"affinities": affinities, "executor": "serial", "blocks": "16", "threshold": 0.3, key: value}
    pipeline.segment(Options.model_validate({**changed, "output": str(made.path)}), restart="all")
    fresh, _ = pipeline.segment(Options.model_validate({**changed, "output": str(tmp_path / "f")}))
    assert np.array_equal(labels(made), labels(fresh))


def test_a_workspace_of_another_volume_is_refused(affinities: str, tmp_path: Path) -> None:
    made = segment(affinities, tmp_path / "w")
    other = tmp_path / "B.zarr"
    shutil.copytree(affinities, other)
    zarr.open_array(str(other), mode="r+")[:, 5:] = 0.5
    with pytest.raises(
        RunRefusedError, match=r"B\.zarr differs from that of this run, .*A\.zarr: \d+ of 24 sampled boxes"
    ):
        segment(str(other), made.path)


def test_a_region_grows_without_a_trace_of_the_smaller_one(
    raw_volume: str, tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def run(workspace: str, roi: str | None) -> tuple[Workspace, list[StageSummary]]:
        given = {"volume": raw_volume, "model": tiny_model, "output": str(tmp_path / workspace), "roi": roi}
        return pipeline.run(Options.model_validate({**given, "blocks": "16,16,45", "executor": "serial"}))

    small, first = run("w", "0:20,5:32,0:45")
    assert labels(small)[20:].max() == 0
    assert labels(small)[:, :5].max() == 0
    grown, second = run("w", None)
    assert "the last run used the region 0:20,5:32,0:45, but this one uses the whole volume" in caplog.text
    assert "to continue there, use --roi 0:20,5:32,0:45" in caplog.text
    assert 0 < second[0].blocks < 12, "affinities of untouched blocks are kept"
    fresh, _ = run("f", None)
    assert np.array_equal(open_array(grown.affinities)[:], open_array(fresh.affinities)[:])
    assert np.array_equal(labels(grown), labels(fresh))
    assert first[0].blocks == 4


def stop_after(stage: str, patch: pytest.MonkeyPatch) -> None:
    """Make every run end as if killed when `stage` and its group are done."""

    def run_then_stop(*given: Any) -> list[StageSummary]:
        summaries = run_stages(*given)
        if stage in [summary.stage for summary in summaries]:
            raise KeyboardInterrupt
        return summaries

    patch.setattr(groups, "run_stages", run_then_stop)


@pytest.mark.parametrize("stage", ["fragments", "edges", "lookup", "relabel"])
def test_a_run_of_another_region_that_stopped_leaves_no_trace(
    affinities: str, made: Workspace, coarse: Workspace, stage: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_after(stage, patch)
        with pytest.raises(KeyboardInterrupt):
            segment(affinities, made.path, blocks="16", threshold=0.3, roi="0:18,:,5:30")
    segment(affinities, made.path, blocks="16", threshold=0.3)
    pipeline.segment(Options(volume=str(made.path), threshold=0.6))
    assert np.array_equal(open_array(made.fragments)[:], open_array(coarse.fragments)[:])
    assert np.array_equal(labels(made), labels(coarse))


def test_a_workspace_can_be_segmented_again_from_anywhere_without_volume_and_model(
    raw_volume: str, tiny_model: str, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        made, _ = pipeline.run(
            Options(volume="V.zarr", model=tiny_model, blocks="32", executor="serial", roi="0:20,:,:")
        )
    Path(raw_volume).rename(tmp_path / "gone.zarr")
    workspace, summaries = pipeline.segment(Options(volume=str(tmp_path / made.path), threshold=0.9))
    assert [s.stage for s in summaries if s.blocks] == ["lookup", "relabel"]
    assert labels(workspace)[20:].max() == 0
    assert labels(workspace)[:20].min() == 1


def test_restarting_a_segmentation_keeps_the_affinities(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    given = Options(volume=raw_volume, model=tiny_model, blocks="32", executor="serial")
    made, _ = pipeline.run(given)
    before = labels(made)
    with pytest.raises(InputError, match="unknown stage to restart 'affinities'"):
        pipeline.segment(Options(volume=str(made.path)), restart="affinities")
    _, summaries = pipeline.segment(Options(volume=str(made.path)), restart="all")
    assert [s.stage for s in summaries] == ["fragments", "edges", "agglomeration", "lookup", "relabel"]
    assert all(s.blocks for s in summaries)
    assert np.array_equal(labels(made), before)


def test_a_refused_restart_destroys_nothing(made: Workspace) -> None:
    with pytest.raises(RunRefusedError, match="block_voxels"):
        pipeline.segment(Options(volume=str(made.path), blocks="8"), restart="edges")
    assert made.tree.exists()
    assert list(made.edges.iterdir())
    _, summaries = pipeline.segment(Options(volume=str(made.path), blocks="16"))
    assert not any(s.blocks for s in summaries)


def test_other_offsets_are_refused(affinities: str, tmp_path: Path) -> None:
    segment(affinities, tmp_path / "w")
    with pytest.raises(RunRefusedError, match="offsets"):
        segment(affinities, tmp_path / "w", offsets="1,0,0;0,-1,0;0,0,-1")


def test_the_old_segmentation_stays_until_the_new_one_is_whole(made: Workspace) -> None:
    before = labels(made)
    with pytest.MonkeyPatch.context() as patch:
        stop_after("lookup", patch)
        with pytest.raises(KeyboardInterrupt):
            pipeline.segment(Options(volume=str(made.path), threshold=0.6))
    assert np.array_equal(labels(made), before)
    assert zarr.open_group(str(made.segmentation), mode="r").attrs["neuroseg"]["threshold"] == 0.3
    (made.path / ".segmentation.before.zarr").mkdir()
    ((made.path / ".segmentation.before.zarr") / "left").touch()
    pipeline.segment(Options(volume=str(made.path), threshold=0.6))
    assert zarr.open_group(str(made.segmentation), mode="r").attrs["neuroseg"]["threshold"] == 0.6
    assert not list(made.path.glob(".segmentation*"))


def test_numbers_and_lists_are_taken_as_options(affinities: str, tmp_path: Path) -> None:
    made = segment(affinities, tmp_path / "w", blocks=[16, 16, 32], min_size=50, offsets=[list(o) for o in OFFSETS])
    assert pipeline.workspace_at(str(made.path))[1].blocks == (16, 16, 32)


def test_small_segments_are_merged_or_dropped(affinities: str, tmp_path: Path) -> None:
    kept = labels(segment(affinities, tmp_path / "a", threshold=0.2))
    merged = labels(segment(affinities, tmp_path / "b", threshold=0.2, min_size="300"))
    dropped = labels(segment(affinities, tmp_path / "c", threshold=0.2, min_size="300", small="drop"))
    sizes = np.bincount(kept.ravel())[1:]
    assert sizes.min() < 300
    assert np.bincount(merged.ravel())[1:].min() >= 300
    assert merged.min() == 1, "merging leaves no voxel without a segment"
    assert (dropped == 0).sum() == sizes[sizes < 300].sum()


def test_a_boundary_map_is_segmented(tmp_path: Path) -> None:
    boundary = np.zeros((12, 20, 30), np.float32)
    boundary[:, :, 14:16] = 1
    array = zarr.create_array(str(tmp_path / "B.zarr"), shape=boundary.shape, dtype="f4")
    array[:] = boundary
    given = {"boundaries": str(tmp_path / "B.zarr"), "output": str(tmp_path / "w"), "voxel_size": (10, 10, 10)}
    made = labels(pipeline.segment(Options.model_validate({**given, "executor": "serial", "blocks": "8"}))[0])
    assert len(np.unique(made[:, :, :14])) == 1
    assert len(np.unique(made[:, :, 16:])) == 1
    assert made[0, 0, 0] != made[0, 0, -1]


def test_the_pyramid_halves_each_level(affinities: str, tmp_path: Path) -> None:
    attributes = {"offsets": OFFSETS, "voxel_size": [1, 1, 1]}
    wide = zarr.create_array(str(tmp_path / "W.zarr"), shape=(3, 8, 8, 300), dtype="u1", attributes=attributes)
    wide[:] = 255
    made = segment(str(tmp_path / "W.zarr"), tmp_path / "w", blocks="8,8,64")
    group = zarr.open_group(str(made.segmentation), mode="r")
    paths = [dataset["path"] for dataset in group.attrs["ome"]["multiscales"][0]["datasets"]]
    assert paths == ["0", "1", "2"]
    assert group["1"].shape == (4, 4, 150)
    full, half = np.asarray(group["0"][:]), np.asarray(group["1"][:])
    for x in (0, 77, 149):
        window = full[:2, :2, 2 * x : 2 * x + 2].ravel().tolist()
        assert half[0, 0, x] == min(set(window), key=lambda label: (-window.count(label), label))


def test_viewers_list_a_segmentation_by_a_plain_name(affinities: str, tmp_path: Path) -> None:
    made = segment(affinities, tmp_path / "w")
    image = zarr.open_group(str(made.segmentation), mode="r").attrs["ome"]["multiscales"][0]
    assert image["name"] == "segmentation"


def test_two_runs_on_one_workspace_are_refused(affinities: str, tmp_path: Path) -> None:
    made = segment(affinities, tmp_path / "w")
    with made.locked(), pytest.raises(RunRefusedError, match=rf"another run \(process {os.getpid()} on "):
        segment(affinities, made.path)


def test_a_folder_that_is_no_workspace_is_left_alone(affinities: str, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "thesis.txt").write_text("years")
    with pytest.raises(InputError, match="is not a workspace"):
        segment(affinities, tmp_path / "w")
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["thesis.txt"]


def test_the_input_is_never_written(affinities: str, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(affinities).rglob("*")}
    segment(affinities, tmp_path / "w")
    assert {path: path.stat().st_mtime_ns for path in Path(affinities).rglob("*")} == before
    assert open_volume(str(tmp_path / "w" / "segmentation.zarr")).read(Roi((0, 0, 0), (1, 1, 1))).shape == (1, 1, 1)


def test_a_remembered_threshold_belongs_to_its_scoring(affinities: str, made: Workspace, tmp_path: Path) -> None:
    segment(affinities, tmp_path / "w", blocks="16")
    assert pipeline.workspace_at(str(tmp_path / "w"))[1].threshold == 0.3
    given = {"affinities": affinities, "output": str(tmp_path / "w"), "scoring": "quantile:50"}
    pipeline.segment(Options.model_validate(given), restart="edges")
    assert pipeline.workspace_at(str(tmp_path / "w"))[1].threshold == 0.5


def test_no_stage_writes_what_it_reads(made: Workspace) -> None:
    """A worker that reads a part of a shard while another one replaces it may get zeros."""
    for method in ("distance-basins", "seeded-watershed"):
        plan = pipeline.workspace_at(str(made.path))[1].model_copy(update={"fragments": method})
        for stage in plan.segmentation_stages(made):
            # A level of the pyramid reads the finer one, an array of its own in the same folder.
            assert set(stage.inputs).isdisjoint(stage.outputs) or stage.name.startswith("pyramid"), stage.name
    with temporary_kept():
        pipeline.segment(Options(volume=str(made.path)), restart="fragments")
        before = {path: path.read_bytes() for path in made.provisional.rglob("*") if path.is_file()}
        pipeline.segment(Options(volume=str(made.path)), restart="edges")
    assert before == {path: path.read_bytes() for path in made.provisional.rglob("*") if path.is_file()}
    assert not np.array_equal(open_array(made.provisional)[:], open_array(made.fragments)[:])
