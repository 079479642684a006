"""`provisional.zarr` and `entries` are removed when all edges are done, and recomputed only if they are read again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from neuroseg.checks.replay import replay_block
from neuroseg.checks.run_state import DONE, run_state
from neuroseg.cli.main import exit_code
from neuroseg.errors import NeurosegError
from neuroseg.evaluation.artifacts import compared
from neuroseg.execution.block import ledger_of
from neuroseg.runs import damage, groups, pipeline
from neuroseg.runs.options import Options
from neuroseg.runs.pipeline import workspace_at
from neuroseg.runs.stages import StageSummary
from neuroseg.runs.temporary import most_at_a_time
from neuroseg.storage.cleaning import TEMPORARY
from neuroseg.storage.workspace import Workspace
from tests.conftest import make_volume
from tests.runs.test_damage import alter, emptied
from tests.runs.test_overlap import done_at

BLOCKS = 12


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve blocks of 16 in a row, along x."""
    return make_volume(tmp_path_factory.mktemp("volume") / "V.zarr", (16, 16, 16 * BLOCKS))


@pytest.fixture(scope="module")
def whole(volume: str, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The finished segmentation of the volume."""
    return pipeline.run(options(volume, tiny_model, tmp_path_factory.mktemp("whole") / "w"))[0]


@pytest.fixture
def copied(whole: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished workspace."""
    shutil.copytree(whole.path, tmp_path / "w")
    return Workspace(tmp_path / "w")


def options(volume: str, model: str, workspace: Path, **more: object) -> Options:
    given = {"volume": volume, "model": model, "output": str(workspace), "blocks": "16", "executor": "serial"}
    return Options.model_validate({**given, **more})


def again(workspace: Workspace, restart: str | None = None, **more: object) -> dict[str, StageSummary]:
    """Segment the workspace once more, and return the summaries by stage."""
    given = Options.model_validate({"volume": str(workspace.path), "executor": "serial", **more})
    return {summary.stage: summary for summary in pipeline.segment(given, restart=restart)[1]}


def differing(one: Workspace, other: Workspace) -> list[str]:
    return [name for name, difference in compared(one, other) if difference]


def left(workspace: Workspace) -> list[str]:
    """Return the temporary artifacts in a workspace, and parts of them."""
    return [name for name in os.listdir(workspace.path) if any(each in name for each in TEMPORARY)]


def files_in(workspace: Workspace) -> int:
    return sum(len(names) for _, _, names in os.walk(workspace.path))


@pytest.mark.parametrize(("scoring", "at_end"), [("mean", 6), ("quantile:50:all", 7)])
def test_files_of_a_run_for_each_block(
    scoring: str, at_end: int, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most six with mean scoring: affinities, two of fragments, entries, edges and nodes; later the segmentation."""
    blocks, counts = 6**3, []
    remove = groups.remove_temporary

    def counted(*given: object) -> None:
        counts.append(files_in(Workspace(tmp_path / "w")))
        remove(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(groups, "remove_temporary", counted)
    made = make_volume(tmp_path / "V.zarr", (96, 96, 96))
    workspace, _ = pipeline.run(options(made, tiny_model, tmp_path / "w", scoring=scoring))
    bins = scoring != "mean"
    fixed = 40  # metadata of arrays, identities and marks of stages, run.yaml
    assert max(counts) == counts[0] <= (6 + bins) * blocks + fixed
    assert counts[0] > 5.9 * blocks, "the temporary artifacts were counted"
    assert files_in(workspace) <= at_end * blocks
    assert left(workspace) == []


@pytest.mark.parametrize("keep", ["all", "stream", "fragments", "segmentation"])
def test_no_run_keeps_temporary_artifacts(
    keep: str, volume: str, tiny_model: str, whole: Workspace, tmp_path: Path
) -> None:
    workspace, _ = pipeline.run(options(volume, tiny_model, tmp_path / "w", keep=keep, executor="local", workers=2))
    assert left(workspace) == []
    assert "segmentation.zarr/0" not in differing(workspace, whole)
    assert run_state(str(workspace.path))[0] == DONE
    assert exit_code(["check", str(workspace.path)]) == 0
    assert {each.blocks for each in again(workspace).values()} == {0}


def test_another_threshold_does_not_need_them(copied: Workspace) -> None:
    assert again(copied, threshold=0.3)["fragments"].blocks == 0
    assert left(copied) == []


LOST = ["edges/00000006.parquet", "nodes/00000006.parquet", "fragments.zarr/c/0/0/6"]


@pytest.mark.parametrize("harm", [Path.unlink, emptied, alter])
@pytest.mark.parametrize("lost", LOST)
def test_damage_is_repaired_with_the_fragments_around_it(
    lost: str, harm: Callable[[Path], None], copied: Workspace, whole: Workspace
) -> None:
    harm(copied.path / lost)
    before = done_at(copied, "fragments")
    again(copied, restart="agglomeration")
    assert differing(copied, whole) == []
    assert left(copied) == []
    after = done_at(copied, "fragments")
    assert {5, 6, 7} <= {index for index, time in after.items() if time != before[index]}, "what the block reads"


def test_fragments_that_continue_far_away_are_recomputed(
    volume: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are longer than these small blocks."""
    far, recompute = [], damage.recompute_far_inputs

    def noted(*given: object) -> bool:
        far.append(given[2])
        return recompute(*given)  # type: ignore[arg-type]

    small = options(volume, tiny_model, tmp_path / "w", blocks="8", roi="0:16,0:16,0:64")
    workspace, _ = pipeline.run(small)
    shutil.copytree(workspace.path, tmp_path / "expected")
    monkeypatch.setattr(damage, "recompute_far_inputs", noted)
    blocks = workspace_at(str(workspace.path))[1].lattice.indices()
    for block in blocks:
        (workspace.edges / f"{block:08d}.parquet").unlink()
        again(workspace)
    assert differing(workspace, Workspace(tmp_path / "expected")) == []
    assert far, "no fragment of this volume continues through a second block"
    assert left(workspace) == []
    assert not list((workspace.path / "failures").glob("*"))


def test_edges_that_fail_for_another_reason_recompute_only_what_they_read(
    copied: Workspace, whole: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object, **more: object) -> None:
        raise ValueError("injected")

    (copied.edges / "00000006.parquet").unlink()
    before = done_at(copied, "fragments")
    with monkeypatch.context() as patch:
        patch.setattr("neuroseg.edges.stage.block_nodes", broken)
        with pytest.raises(NeurosegError, match="injected"):
            again(copied)
    after = done_at(copied, "fragments")
    assert {index for index, time in after.items() if time != before[index]} == {5, 6, 7}
    again(copied)
    assert differing(copied, whole) == []
    assert left(copied) == []


def test_restarted_edges_recompute_fragments(copied: Workspace, whole: Workspace) -> None:
    made = again(copied, restart="edges")
    assert made["fragments"].blocks == made["edges"].blocks == BLOCKS
    assert differing(copied, whole) == []
    assert left(copied) == []


def test_another_scoring_recomputes_fragments(copied: Workspace, volume: str, tiny_model: str, tmp_path: Path) -> None:
    again(copied, restart="edges", scoring="quantile:50:all")
    fresh, _ = pipeline.run(options(volume, tiny_model, tmp_path / "f", scoring="quantile:50:all"))
    assert differing(copied, fresh) == []
    assert left(copied) == []


def test_a_larger_region_after_a_finished_one(volume: str, tiny_model: str, whole: Workspace, tmp_path: Path) -> None:
    pipeline.run(options(volume, tiny_model, tmp_path / "w", roi="0:16,0:16,0:96"))
    grown, _ = pipeline.run(options(volume, tiny_model, tmp_path / "w"))
    assert differing(grown, whole) == []
    assert left(grown) == []


def test_edges_that_are_unmarked_read_recomputed_fragments(copied: Workspace, whole: Workspace) -> None:
    stage = workspace_at(str(copied.path))[1].stage(copied, "edges")
    ledger_of(copied, stage).clear(stage.lattice.blocks(stage.halo)[3:5])
    again(copied)
    assert differing(copied, whole) == []
    assert left(copied) == []


@pytest.mark.parametrize("place", ["before", "rename", "rmtree"])
def test_a_removal_that_is_interrupted(
    place: str, volume: str, tiny_model: str, whole: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is removed, before the first folder is renamed, and after a part of it is removed."""

    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    def killed_within(folder: Path, **more: object) -> None:
        if folder.name.startswith(".provisional") and folder.is_dir():
            (folder / "zarr.json").unlink()
            raise KeyboardInterrupt
        removed(folder, **more)  # type: ignore[arg-type]

    removed = shutil.rmtree
    with monkeypatch.context() as patch:
        match place:
            case "before":
                patch.setattr("neuroseg.runs.temporary.remove", killed)
            case "rename":
                patch.setattr(Path, "rename", killed)
            case "rmtree":
                patch.setattr(shutil, "rmtree", killed_within)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(options(volume, tiny_model, tmp_path / "w"))
    workspace = Workspace(tmp_path / "w")
    assert left(workspace)
    shutil.copytree(workspace.path, tmp_path / "v")
    _, summaries = pipeline.run(options(volume, tiny_model, tmp_path / "w"))
    assert [each.blocks for each in summaries[:3]] == [0, 0, 0]
    restarted = Workspace(tmp_path / "v")
    pipeline.run(options(volume, tiny_model, restarted.path), restart="edges")
    for each in (workspace, restarted):
        assert differing(each, whole) == []
        assert left(each) == []


def test_a_removal_that_the_disk_refuses_does_not_end_the_run(
    volume: str, tiny_model: str, whole: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A file that another machine has open may keep a folder on a network disk."""

    def refused(*given: object) -> None:
        raise OSError(39, "Directory not empty")

    with monkeypatch.context() as patch:
        patch.setattr("neuroseg.runs.temporary.remove", refused)
        workspace, _ = pipeline.run(options(volume, tiny_model, tmp_path / "w"))
    assert "cannot remove" in caplog.text
    assert sorted(left(workspace)) == sorted(TEMPORARY)
    again(workspace)
    assert differing(workspace, whole) == []
    assert left(workspace) == []


@pytest.mark.parametrize("stage", ["fragments", "edges"])
def test_replay_recomputes_what_the_block_reads(stage: str, copied: Workspace, whole: Workspace) -> None:
    (copied.edges / "00000006.parquet").unlink()
    replay_block(str(copied.path), stage, 6)
    assert copied.edges.joinpath("00000006.parquet").exists() == (stage == "edges")
    assert left(copied) == []
    again(copied)
    assert differing(copied, whole) == []


@pytest.mark.parametrize("method", ["seeded-watershed", "mutex-watershed"])
def test_methods_that_cut_fragments_keep_them(method: str, volume: str, tiny_model: str, tmp_path: Path) -> None:
    workspace, _ = pipeline.run(options(volume, tiny_model, tmp_path / "w", fragments=method))
    assert workspace.fragments.exists()
    assert {each.blocks for each in again(workspace).values()} == {0}


def test_the_largest_size_is_before_or_after_the_removal(copied: Workspace) -> None:
    every = workspace_at(str(copied.path))[1].stages(copied)
    sizes = {stage.name: 0.0 for stage in every} | {"affinities": 8.0, "fragments": 4.0, "edges": 2.0}
    assert most_at_a_time(every, {**sizes, "relabel": 3.0}) == 14
    assert most_at_a_time(every, {**sizes, "relabel": 3.0, "pyramid": 2.0}) == 15
