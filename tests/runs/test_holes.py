"""Files that vanish or change at a bad moment: while other blocks fail, while they are recomputed, or in the input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from neuroseg.checks.replay import replay_block
from neuroseg.cli.main import exit_code
from neuroseg.errors import BlocksFailedError, InputError, RunRefusedError
from neuroseg.evaluation.artifacts import compared
from neuroseg.execution import serial
from neuroseg.runs import damage, pipeline
from neuroseg.runs.finished import is_finished
from neuroseg.runs.options import Options
from neuroseg.storage.cleaning import intermediates, remove
from neuroseg.storage.workspace import Workspace
from tests.conftest import temporary_kept
from tests.runs.test_damage import alter
from tests.runs.test_stages import boundaries

SHARD = Path("fragments.zarr/c/0/0/1")
OTHER = Path("fragments.zarr/c/1/1/0")


@pytest.fixture
def whole(tmp_path: Path) -> Workspace:
    with temporary_kept():
        return pipeline.segment(boundaries(tmp_path, "serial", "whole"))[0]


def differing(one: Workspace, other: Workspace) -> list[str]:
    return [name for name, difference in compared(one, other) if difference]


def at_first_block_of(stage_name: str, act: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Call a function before the first block of a stage."""
    process_block, happened = serial.process_block, []

    def acting(process: Any, block: Any, stage: Any, *more: Any, **named: Any) -> Any:
        if stage.name == stage_name and not happened:
            happened.append(block)
            act()
        return process_block(process, block, stage, *more, **named)

    patch.setattr(serial, "process_block", acting)


def test_a_shard_goes_missing_while_another_is_damaged(
    whole: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed block reads both. Blocks that read zeros did not fail."""

    def harm() -> None:
        (tmp_path / "w" / SHARD).unlink()
        alter(tmp_path / "w" / OTHER)

    at_first_block_of("relabel", harm, monkeypatch)
    made, _ = pipeline.segment(boundaries(tmp_path, "serial"))
    assert differing(whole, made) == []


def test_an_interrupt_while_a_shard_is_made_again(
    whole: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        at_first_block_of("relabel", lambda: (tmp_path / "w" / SHARD).unlink(), patch)
        patch.setattr(damage, "_recompute_or_fail", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pipeline.segment(boundaries(tmp_path, "serial"))
    made, _ = pipeline.segment(boundaries(tmp_path, "serial"))
    assert differing(whole, made) == []


def test_a_run_killed_before_it_looked_at_its_input_once_more(
    whole: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        at_first_block_of("relabel", lambda: (tmp_path / "w" / SHARD).unlink(), patch)
        patch.setattr(
            "neuroseg.runs.stages.recompute_vanished_inputs",
            lambda *given: killed() if given[2][0].name == "relabel" else False,
        )
        with pytest.raises(KeyboardInterrupt):
            pipeline.segment(boundaries(tmp_path, "serial"))
    made, _ = pipeline.segment(boundaries(tmp_path, "serial"))
    assert differing(whole, made) == []


def test_nothing_is_made_again_from_an_input_that_changed(whole: Workspace, tmp_path: Path) -> None:
    array = zarr.open_array(str(tmp_path / "B.zarr"), mode="r+")
    array[:] = 255 - np.asarray(array[:])
    (whole.provisional / "c" / "0" / "0" / "1").unlink()
    with pytest.raises(RunRefusedError, match="sampled boxes differ"):
        pipeline.segment(Options(volume=str(whole.path), executor="serial"))


def test_an_input_that_vanishes_while_it_is_read_is_noticed(
    whole: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tmp_path / "B.zarr", tmp_path / "kept.zarr")
    with monkeypatch.context() as patch:
        at_first_block_of("edges", lambda: shutil.rmtree(tmp_path / "B.zarr" / "c"), patch)
        with pytest.raises(InputError, match=r"B\.zarr"):
            pipeline.segment(boundaries(tmp_path, "serial"))
    shutil.rmtree(tmp_path / "B.zarr")
    (tmp_path / "kept.zarr").rename(tmp_path / "B.zarr")
    made, _ = pipeline.segment(boundaries(tmp_path, "serial"))
    assert differing(whole, made) == []


def test_a_mask_that_was_repainted_is_refused(tmp_path: Path) -> None:
    placed = {"voxel_size": [10, 10, 10], "offset": [0, 0, 0]}
    mask = zarr.create_array(str(tmp_path / "M.zarr"), shape=(20, 30, 34), dtype="u1", attributes=placed)
    mask[:, :15] = 1
    options = boundaries(tmp_path, "serial").model_copy(update={"mask": str(tmp_path / "M.zarr")})
    made, _ = pipeline.segment(options)
    mask[:] = 0
    mask[:, 8:24] = 1
    with pytest.raises(RunRefusedError, match=r"the mask .*M\.zarr has changed since this run"):
        pipeline.segment(Options(volume=str(made.path), executor="serial", threshold=0.3))


def test_a_block_is_not_replayed_over_a_hole(whole: Workspace) -> None:
    (whole.provisional / "c" / "0" / "0" / "1").unlink()
    with pytest.raises(InputError, match="stage edges needs files of stage fragments, which are missing for 1 block\n"):
        replay_block(str(whole.path), "edges", 0)


def test_a_replayed_block_has_one_record(whole: Workspace) -> None:
    replay_block(str(whole.path), "edges", 0)
    records = whole.ledger("edges", {}).records()
    assert [record["block"] for record in records].count(0) == 1


def test_check_finds_blocks_of_zeros_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, _ = pipeline.segment(boundaries(tmp_path, "serial").model_copy(update={"mask_boundary": 0.9}))
    assert len([path for path in (made.segmentation / "0" / "c").rglob("*") if path.is_file()]) < 8
    assert exit_code(["check", str(made.path)]) == 0
    assert "damaged" not in capsys.readouterr().out


def test_check_finds_that_the_segmentation_is_gone(whole: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(whole.edges)
    assert exit_code(["check", str(whole.path), "--json"]) == 0, "what clean removes may be gone"
    rows = {row["stage"]: row for row in json.loads(capsys.readouterr().out)["stages"]}
    assert rows["edges"]["removed"] == ["edges"]
    shutil.rmtree(whole.segmentation)
    assert exit_code(["check", str(whole.path)]) == 1
    assert "8 missing" in capsys.readouterr().out


def test_a_level_that_fails_has_nothing_else_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    values = np.full((8, 20, 150), 30, np.uint8)
    attributes = {"voxel_size": [10, 10, 10]}
    array = zarr.create_array(str(tmp_path / "B.zarr"), shape=values.shape, dtype="u1", attributes=attributes)
    array[:] = values
    given = {"boundaries": str(tmp_path / "B.zarr"), "output": str(tmp_path / "w"), "blocks": "8,20,80"}

    def broken(*given: object) -> None:
        raise MemoryError("once")

    monkeypatch.setattr("neuroseg.segmentation.stage.downsampled", broken)
    with pytest.raises(BlocksFailedError, match="MemoryError: once"):
        pipeline.segment(Options.model_validate({**given, "executor": "serial"}))
    assert "recomputing" not in caplog.text


def test_a_refused_command_leaves_a_finished_run_finished(whole: Workspace) -> None:
    remove(intermediates(whole, "segmentation"))
    before = {path: path.read_bytes() for path in (whole.path / "ledger").rglob("*") if path.is_file()}
    run = (whole.path / "run.yaml").read_bytes()
    with pytest.raises(InputError, match="nothing was changed"):
        pipeline.segment(Options(volume=str(whole.path), executor="serial", threshold=0.2))
    assert (whole.path / "run.yaml").read_bytes() == run
    assert {path: path.read_bytes() for path in (whole.path / "ledger").rglob("*") if path.is_file()} == before
    assert is_finished(*pipeline.workspace_at(str(whole.path)))


def test_a_segmentation_without_its_description_is_found(
    whole: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole.segmentation, tmp_path / "truth.zarr")
    (whole.segmentation / "zarr.json").unlink()
    assert exit_code(["check", str(whole.path)]) == 1
    assert exit_code(["evaluate", str(whole.path), "--truth", str(tmp_path / "truth.zarr")]) == 1
    assert (
        "segmentation.zarr are missing or damaged\n"
        f"hint: run neuroseg segment {whole.path} to recompute the segmentation" in capsys.readouterr().err
    )
    assert exit_code(["segment", str(whole.path)]) == 0
    assert exit_code(["check", str(whole.path)]) == 0
