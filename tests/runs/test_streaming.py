"""`--keep stream`: the same bytes. Affinities are on disk only until they are read, and recomputed if needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from neuroseg.blocks import whole_lattice
from neuroseg.checks.replay import replay_block
from neuroseg.edges.stage import EdgesStage
from neuroseg.errors import DamagedError, InputError, NeurosegError
from neuroseg.evaluation.artifacts import array_difference, compared
from neuroseg.execution.block import ledger_of
from neuroseg.fragments.stage import FragmentsStage
from neuroseg.runs import pipeline
from neuroseg.runs.finished import require_whole_artifact
from neuroseg.runs.options import Options
from neuroseg.runs.pipeline import workspace_at
from neuroseg.runs.stages import StageSummary
from neuroseg.runs.streaming import blocks_held
from neuroseg.stage import Stage
from neuroseg.storage.workspace import Workspace
from tests.conftest import make_volume, temporary_kept
from tests.runs.test_damage import alter, largest_file
from tests.runs.test_overlap import done_at, failing

BLOCKS = 20


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twenty blocks of 16 in a row, along x."""
    return make_volume(tmp_path_factory.mktemp("volume") / "V.zarr", (16, 16, 16 * BLOCKS))


@pytest.fixture(scope="module")
def kept(volume: str, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The segmentation of the volume, with all intermediate artifacts."""
    return run(volume, tiny_model, tmp_path_factory.mktemp("kept") / "w", keep="all")[0]


def run(volume: str, model: str, workspace: Path, **more: object) -> tuple[Workspace, list[StageSummary]]:
    return pipeline.run(options(volume, model, workspace, **more), restart=None)


def options(volume: str, model: str, workspace: Path, **more: object) -> Options:
    given = {"volume": volume, "model": model, "output": str(workspace), "blocks": "16", "executor": "serial"}
    return Options.model_validate({**given, "keep": "stream", **more})


def differing(one: Workspace, other: Workspace) -> list[str]:
    """Return the artifacts other than affinities in which two runs differ."""
    return [name for name, difference in compared(one, other) if difference and name != "affinities.zarr"]


def stage_of(workspace: Workspace, name: str) -> Stage:
    _, plan = workspace_at(str(workspace.path))
    return plan.stage(workspace, name)


def released(workspace: Workspace) -> set[int]:
    return set(ledger_of(workspace, stage_of(workspace, "affinities")).released().tolist())


@pytest.mark.parametrize("executor", ["serial", "local"])
def test_affinities_are_there_only_while_they_are_read(
    executor: str, volume: str, tiny_model: str, kept: Workspace, tmp_path: Path
) -> None:
    made, summaries = run(volume, tiny_model, tmp_path / "w", executor=executor, workers=2)
    assert not made.affinities.exists()
    assert differing(made, kept) == []
    assert summaries[0].stage == "affinities"
    # One process holds what later stages need, and one more; two workers have been given two more each by then.
    shards = sorted(path.stat().st_size for path in (Path(str(kept.affinities)) / "c").rglob("*") if path.is_file())
    assert len(shards) == BLOCKS
    held = blocks_held(stage_of(kept, "affinities").lattice)
    most = sum(shards[-(held + 1 if executor == "serial" else held + 2 * 2) :])
    assert 0 < summaries[0].peak_disk_bytes <= most < 0.65 * sum(shards)
    again, summaries = run(volume, tiny_model, tmp_path / "w", executor=executor, workers=2, keep=None)
    assert [summary.blocks for summary in summaries] == [0] * len(summaries), "nothing is left to do"
    assert differing(again, kept) == []


@pytest.mark.parametrize("keep", ["stream", "all", None])
def test_a_run_that_was_cut_off_goes_on(
    keep: str | None, volume: str, tiny_model: str, kept: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repair = failing(14, monkeypatch)
    with pytest.raises(Exception, match="1 block of stage affinities failed"):
        run(volume, tiny_model, tmp_path / "w")
    gone = released(Workspace(tmp_path / "w"))
    assert gone >= set(range(8))
    repair()
    made, summaries = run(volume, tiny_model, tmp_path / "w", keep=keep)
    assert summaries[0].blocks == 1, "what was released is read by nobody any more"
    assert differing(made, kept) == []
    assert not made.affinities.exists(), "it has holes"


def test_what_was_released_and_is_read_again_is_made_again(
    volume: str, tiny_model: str, kept: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repair = failing(14, monkeypatch)
    with pytest.raises(Exception, match="1 block of stage affinities failed"):
        run(volume, tiny_model, tmp_path / "w")
    repair()
    # A shard of fragments and its affinities are missing.
    workspace = Workspace(tmp_path / "w")
    (workspace.entries / "00000003.parquet").unlink()
    made, summaries = run(volume, tiny_model, tmp_path / "w")
    assert differing(made, kept) == []
    assert 1 < summaries[0].blocks < BLOCKS, "tables are read from any block: done edges are recomputed"
    assert not made.affinities.exists()


def test_damage_that_is_found_while_released_affinities_are_gone(
    volume: str, tiny_model: str, kept: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block of edges fails because of a damaged shard of fragments, whose affinities were released."""
    opened, harmed = EdgesStage.open, []
    workspace = Workspace(tmp_path / "w")

    def harm_first(stage: EdgesStage):  # type: ignore[no-untyped-def]
        held = opened(stage)

        class Harming:
            def __enter__(self):  # type: ignore[no-untyped-def]
                process = held.__enter__()

                def harm(block):  # type: ignore[no-untyped-def]
                    if block.index == 9 and not harmed:
                        harmed.append(block)
                        alter(workspace.provisional / "c" / "0" / "0" / "8")
                    return process(block)

                return harm

            def __exit__(self, *given: object):  # type: ignore[no-untyped-def]
                return held.__exit__(*given)

        return Harming()

    monkeypatch.setattr(EdgesStage, "open", harm_first)
    made, _ = run(volume, tiny_model, tmp_path / "w")
    assert harmed
    assert differing(made, kept) == []


def test_a_restart_predicts_again_what_it_reads(volume: str, tiny_model: str, kept: Workspace, tmp_path: Path) -> None:
    made, _ = run(volume, tiny_model, tmp_path / "w")
    before = done_at(made, "fragments")
    with pytest.raises(
        InputError, match=r"stage fragments reads 20 blocks of affinities that --keep stream deleted"
    ) as no:
        pipeline.segment(Options(volume=str(made.path)), restart="fragments")
    assert f"nothing was changed\nhint: recompute them: neuroseg run {tmp_path / 'w'}" in str(no.value)
    assert done_at(made, "fragments") == before
    again, summaries = pipeline.run(options(volume, tiny_model, tmp_path / "w"), restart="fragments")
    assert summaries[0].blocks == BLOCKS
    assert differing(again, kept) == []


def test_another_threshold_needs_no_affinities(volume: str, tiny_model: str, kept: Workspace, tmp_path: Path) -> None:
    made, _ = run(volume, tiny_model, tmp_path / "w")
    shutil.copytree(kept.path, tmp_path / "k")
    for path in (made.path, tmp_path / "k"):
        pipeline.segment(Options(volume=str(path), threshold=0.35))
    assert differing(made, Workspace(tmp_path / "k")) == []


def test_predict_makes_all_of_it_again(volume: str, tiny_model: str, kept: Workspace, tmp_path: Path) -> None:
    run(volume, tiny_model, tmp_path / "w")
    made, summaries = pipeline.predict(options(volume, tiny_model, tmp_path / "w", keep=None))
    assert summaries[-1].blocks == BLOCKS
    assert not dict(compared(made, kept))["affinities.zarr"]


def test_predicting_again_changes_nothing_that_follows(
    volume: str, tiny_model: str, kept: Workspace, tmp_path: Path
) -> None:
    made, _ = run(volume, tiny_model, tmp_path / "w")
    before = done_at(made, "agglomeration")
    pipeline.predict(options(volume, tiny_model, tmp_path / "w", keep=None))
    assert done_at(made, "agglomeration") == before
    _, summaries = run(volume, tiny_model, tmp_path / "w", keep="all")
    assert [summary.blocks for summary in summaries] == [0] * len(summaries)
    assert differing(made, kept) == []
    assert dict(compared(made, kept))["affinities.zarr"] is None


LOST = ["edges/00000008.parquet", "entries/00000008.parquet", "provisional.zarr/c/0/0/8", "fragments.zarr/c/0/0/8"]


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("segment", [True, False])
def test_a_file_that_is_lost_after_a_run_is_made_again(
    lost: str, segment: bool, volume: str, tiny_model: str, kept: Workspace, tmp_path: Path
) -> None:
    """The missing affinities are not those that were released. They are recomputed."""
    with temporary_kept():
        made, _ = run(volume, tiny_model, tmp_path / "w")
    assert made.segmentation.exists()
    (made.path / lost).unlink()
    if segment:
        pipeline.segment(Options(volume=str(made.path)))
    else:
        run(volume, tiny_model, tmp_path / "w")
    assert differing(made, kept) == []
    assert not made.affinities.exists()


def test_a_prediction_that_fails_when_it_is_needed_again_ends_the_run(
    volume: str, tiny_model: str, kept: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_kept():
        made, _ = run(volume, tiny_model, tmp_path / "w")
    (made.entries / "00000008.parquet").unlink()
    repair = failing(7, monkeypatch)
    with pytest.raises(NeurosegError, match=r"1 block of stage fragments is missing .*, and recomputing failed"):
        run(volume, tiny_model, tmp_path / "w")
    repair()
    run(volume, tiny_model, tmp_path / "w")
    assert differing(made, kept) == []


def test_another_threshold_after_less_was_kept(volume: str, tiny_model: str, kept: Workspace, tmp_path: Path) -> None:
    made, _ = run(volume, tiny_model, tmp_path / "w")
    run(volume, tiny_model, tmp_path / "w", keep="fragments")
    assert not made.edges.exists()
    _, summaries = pipeline.segment(Options(volume=str(made.path), threshold=0.35))
    assert {s.stage: s.blocks for s in summaries}["fragments"] == 0
    shutil.copytree(kept.path, tmp_path / "k")
    pipeline.segment(Options(volume=str(tmp_path / "k"), threshold=0.35))
    name = "segmentation.zarr/0"
    assert not array_difference(name, made.path / name, tmp_path / "k" / name)


def test_a_method_that_reads_affinities_later_finds_them_or_is_refused(
    volume: str, tiny_model: str, tmp_path: Path
) -> None:
    made, _ = run(volume, tiny_model, tmp_path / "w")
    multicut = options(volume, tiny_model, tmp_path / "w", keep="all", agglomeration="multicut")
    with pytest.raises(
        InputError,
        match=r"agglomeration reads .* deleted; nothing was changed\nhint: .*: neuroseg run .* --restart affinities",
    ):
        pipeline.run(multicut, restart="agglomeration")
    assert made.segmentation.exists()
    other, _ = run(volume, tiny_model, tmp_path / "m", keep="all", agglomeration="multicut")
    with pytest.raises(InputError, match=r"--keep stream deletes affinities that stage agglomeration reads"):
        pipeline.segment(Options(volume=str(other.path), keep="stream"))
    assert other.affinities.exists()


def test_what_has_holes_is_not_read(
    volume: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(14, monkeypatch)
    with pytest.raises(Exception, match="1 block of stage affinities failed"):
        run(volume, tiny_model, tmp_path / "w")
    workspace, plan = workspace_at(str(tmp_path / "w"))
    with pytest.raises(DamagedError, match="--keep stream"):
        require_whole_artifact(workspace, plan, "affinities.zarr")
    with pytest.raises(InputError, match="affinities"):
        replay_block(str(workspace.path), "fragments", 2)


def test_multicut_reads_affinities_later_and_refuses(volume: str, tiny_model: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--keep stream deletes affinities that stage agglomeration reads") as no:
        run(volume, tiny_model, tmp_path / "w", agglomeration="multicut")
    assert no.value.exit_code == 2
    assert not (tmp_path / "w").exists()


def test_a_block_that_lost_a_worker_keeps_its_affinities_until_the_end(
    volume: str, tiny_model: str, kept: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dropped worker may still read them, and must not read zeros."""
    from neuroseg.execution.scheduler import Schedule

    opened, first = FragmentsStage.open, []
    taken_back, seen = Schedule.take_back, []

    def noted(schedule: Schedule, key, outcome) -> None:  # type: ignore[no-untyped-def]
        if key.stage == "fragments" and key.number == 4 and not first:
            first.append(key)
            outcome = None
        taken_back(schedule, key, outcome)
        seen.append(released(Workspace(tmp_path / "w")))

    monkeypatch.setattr(Schedule, "take_back", noted)
    monkeypatch.setattr("neuroseg.execution.serial.Schedule", lambda tasks, retries: Schedule(tasks, 1))
    made, _ = run(volume, tiny_model, tmp_path / "w")
    assert opened is FragmentsStage.open
    assert not {2, 3, 4, 5, 6} & seen[-1], "those that block 4 of fragments reads"
    assert {0, 10} <= seen[-1] or {0, 12} <= seen[-1]
    assert differing(made, kept) == []
    assert not made.affinities.exists()


def test_how_many_blocks_are_held() -> None:
    assert blocks_held(whole_lattice((16, 16, 320), (16, 16, 16))) == 4
    assert blocks_held(whole_lattice((64, 96, 64), (16, 16, 16))) == 4 * 16
    assert blocks_held(whole_lattice((10, 10, 10), (16, 16, 16))) == 1
    assert blocks_held(whole_lattice((32, 32, 32), (16, 16, 16))) == 8


def test_the_largest_file_is_one_of_affinities(kept: Workspace) -> None:
    assert largest_file(kept.affinities).stat().st_size > 0
