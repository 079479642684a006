"""Missing or empty shards are recomputed, never read as zeros, as zarr would."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from neuroseg.cli.main import exit_code
from neuroseg.errors import NeurosegError
from neuroseg.evaluation.artifacts import compared
from neuroseg.execution.block import ledger_of
from neuroseg.runs import pipeline
from neuroseg.runs.damage import missing_blocks
from neuroseg.runs.options import Options
from neuroseg.runs.pipeline import workspace_at
from neuroseg.storage.arrays import open_array
from neuroseg.storage.cleaning import intermediates, remove
from neuroseg.storage.stored import Stored
from neuroseg.storage.workspace import Workspace
from tests.conftest import make_volume, temporary_kept
from tests.runs.test_damage import emptied, largest_file

ARRAYS = ("affinities.zarr", "provisional.zarr", "fragments.zarr", "segmentation.zarr/0", "segmentation.zarr/1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Path:
    """A folder with a finished run of a volume of two pyramid levels, in eight blocks, with its temporary artifacts."""
    folder = tmp_path_factory.mktemp("finished")
    volume = make_volume(folder / "V.zarr", (40, 72, 150))
    with temporary_kept():
        pipeline.run(options(volume, tiny_model))
    return folder


def options(volume: str, model: str, **more: object) -> Options:
    given = {"volume": volume, "model": model, "blocks": "32,48,80", "executor": "serial", "threshold": 0.4}
    return Options.model_validate({**given, **more})


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> tuple[Workspace, Workspace]:
    """A copy of the finished workspace to damage, and the original that it must equal at the end."""
    shutil.copytree(finished / "V.neuroseg", tmp_path / "V.neuroseg")
    return Workspace(tmp_path / "V.neuroseg"), Workspace(finished / "V.neuroseg")


def differing(one: Workspace, other: Workspace) -> list[str]:
    return [name for name, difference in compared(one, other) if difference]


@pytest.mark.parametrize("damage", [Path.unlink, emptied])
@pytest.mark.parametrize("artifact", ARRAYS)
def test_the_same_command_makes_a_missing_shard_again(
    copied: tuple[Workspace, Workspace], finished: Path, tiny_model: str, artifact: str,
    damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    workspace, whole = copied
    damage(largest_file(workspace.path / artifact / "c"))
    pipeline.run(options(str(finished / "V.zarr"), tiny_model, output=str(workspace.path)))
    assert differing(whole, workspace) == []
    assert "1 block of stage" in caplog.text


@pytest.mark.parametrize("artifact", ARRAYS[:3])
@pytest.mark.parametrize("more", [{"threshold": 0.3}, {"restart": "agglomeration"}])
def test_a_later_stage_reads_no_hole(
    copied: tuple[Workspace, Workspace], tmp_path: Path, artifact: str, more: dict[str, object]
) -> None:
    workspace, _ = copied
    shutil.copytree(workspace.path, tmp_path / "expected.neuroseg")
    expected = Workspace(tmp_path / "expected.neuroseg")
    largest_file(workspace.path / artifact / "c").unlink()
    for space in (workspace, expected):
        given = {name: value for name, value in more.items() if name != "restart"}
        again = Options.model_validate({"volume": str(space.path), "executor": "serial", **given})
        pipeline.segment(again, restart="agglomeration" if "restart" in more else None)
    assert differing(expected, workspace) == []


def test_every_shard_of_an_array_may_be_gone(
    copied: tuple[Workspace, Workspace], finished: Path, tiny_model: str
) -> None:
    workspace, whole = copied
    shutil.rmtree(workspace.fragments / "c")
    (workspace.provisional / "zarr.json").unlink()
    (workspace.segmentation / "1" / "zarr.json").write_bytes(b"")
    pipeline.run(options(str(finished / "V.zarr"), tiny_model, output=str(workspace.path)))
    assert differing(whole, workspace) == []


def test_the_description_of_a_segmentation_may_be_gone(
    copied: tuple[Workspace, Workspace], finished: Path, tiny_model: str
) -> None:
    workspace, whole = copied
    (workspace.segmentation / "zarr.json").write_bytes(b"")
    pipeline.run(options(str(finished / "V.zarr"), tiny_model, output=str(workspace.path)))
    assert differing(whole, workspace) == []
    assert "ome" in zarr.open_group(str(workspace.segmentation), mode="r").attrs


def test_shards_of_zeros_are_not_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = np.zeros((3, 16, 32, 32), np.uint8)
    values[:, :, :16] = 200
    array = zarr.create_array(
        str(tmp_path / "A.zarr"), shape=values.shape, dtype="u1",
        attributes={"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], "voxel_size": [10, 10, 10]},
    )  # fmt: skip
    array[:] = values
    placed = {"voxel_size": [10, 10, 10], "offset": [0, 0, 0]}
    mask = zarr.create_array(str(tmp_path / "M.zarr"), shape=values.shape[1:], dtype="u1", attributes=placed)
    mask[:, :20] = 1
    given = Options.model_validate(
        {
            "affinities": str(tmp_path / "A.zarr"), "output": str(tmp_path / "w"), "blocks": "16", "executor": "serial",
            "mask": str(tmp_path / "M.zarr"), "mask_boundary": 0.5,
        }
    )  # fmt: skip
    workspace, _ = pipeline.segment(given)
    shards = [path for path in (workspace.fragments / "c").rglob("*") if path.is_file()]
    assert len(shards) == 2, "two of the four blocks are zeros"
    with caplog.at_level(logging.WARNING):
        _, summaries = pipeline.segment(given)
    assert not caplog.text
    assert {summary.blocks for summary in summaries} == {0}


def test_what_goes_missing_while_it_is_read_is_noticed(
    finished: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard of the input is removed when the last block of the reading stage begins."""
    from neuroseg.fragments import stage as fragments

    whole, count = Workspace(finished / "V.neuroseg"), []
    compute = fragments.block_fragments

    def removing(*given: object, **more: object) -> object:
        count.append(1)
        if len(count) == 1:
            (tmp_path / "w" / "affinities.zarr" / "c" / "0" / "0" / "1" / "1").unlink()
        return compute(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(fragments, "block_fragments", removing)
    workspace, _ = pipeline.run(options(str(finished / "V.zarr"), tiny_model, output=str(tmp_path / "w")))
    assert len(count) > 8, "blocks that may have read zeros are recomputed"
    assert differing(whole, workspace) == []


def test_what_cannot_be_made_again_is_refused(copied: tuple[Workspace, Workspace]) -> None:
    workspace, _ = copied
    remove(intermediates(workspace, "fragments"))
    largest_file(workspace.fragments / "c").unlink()
    with pytest.raises(NeurosegError, match=r"(?s)1 block of stage edges is missing .* --restart edges"):
        pipeline.segment(Options(volume=str(workspace.path), executor="serial", threshold=0.3))


@pytest.mark.parametrize("address", ["V.neuroseg", "V.neuroseg/segmentation.zarr"])
def test_holes_are_not_scored(
    copied: tuple[Workspace, Workspace], address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, whole = copied
    largest_file(workspace.path / "segmentation.zarr" / "0").unlink()
    found = str(workspace.path.parent / address)
    assert exit_code(["evaluate", found, "--truth", str(whole.segmentation)]) == 1
    assert "1 block of segmentation.zarr in" in capsys.readouterr().err


def test_a_sweep_scores_no_holes(copied: tuple[Workspace, Workspace], capsys: pytest.CaptureFixture[str]) -> None:
    workspace, whole = copied
    largest_file(workspace.fragments / "c").unlink()
    assert exit_code(["evaluate", str(workspace.path), "--truth", str(whole.segmentation), "--sweep"]) == 1
    assert "1 block of fragments.zarr in" in capsys.readouterr().err


def test_missing_blocks_are_those_whose_files_are_gone(copied: tuple[Workspace, Workspace]) -> None:
    workspace, _ = copied
    plan = workspace_at(str(workspace.path))[1]
    stages = {stage.name: stage for stage in plan.stages(workspace)}
    assert all(missing_blocks(workspace, stage) == [] for stage in stages.values())
    (workspace.edges / "00000003.parquet").unlink()
    assert [block.index for block in missing_blocks(workspace, stages["edges"])] == [3]


def test_a_stage_that_was_cut_off_is_not_believed(
    copied: tuple[Workspace, Workspace], finished: Path, tiny_model: str
) -> None:
    """The head was killed before it could detect that a shard vanished while blocks read zeros instead."""
    workspace, whole = copied
    shard = largest_file(workspace.affinities / "c")
    fragments = open_array(workspace.provisional, writable=True)
    values = np.asarray(fragments[:])
    shard.unlink()
    fragments[:] = np.where(values, values + 1, 0)  # as if made of zeros, with marks that hold
    for stage in ("edges", "agglomeration", "lookup", "relabel", "pyramid"):
        workspace.ledger(stage, {}).forget()
    stage = workspace_at(str(workspace.path))[1].stage(workspace, "fragments")
    ledger = ledger_of(workspace, stage)
    blocks = list(stage.lattice.blocks(stage.halo))
    shards = sorted((workspace.provisional / "c").rglob("*/*/*"))
    for (block, counts), shard in zip(ledger.stored(blocks), shards, strict=True):
        assert shard.is_file()
        ledger.mark_done(block, {}, [Stored(1, shard.stat().st_size), *counts[1:]])
    ledger.clear(blocks[-1:])
    ledger.claim()  # its inputs are not verified
    pipeline.run(options(str(finished / "V.zarr"), tiny_model, output=str(workspace.path)))
    assert differing(whole, workspace) == []


def test_blocks_that_are_made_again_with_other_sizes_keep_one_mark(copied: tuple[Workspace, Workspace]) -> None:
    workspace, _ = copied
    stages = {stage.name: stage for stage in workspace_at(str(workspace.path))[1].stages(workspace)}
    ledger = workspace.ledger("edges", stages["edges"].identity, stages["edges"].scope)
    block = stages["edges"].lattice.block(3, stages["edges"].halo)
    before = ledger.done()
    ledger.mark_done(block, {}, [Stored(1, 9999)])
    assert ledger.done() == before
    assert list(ledger.stored([block])) == [(block, [Stored(1, 9999)])]


def test_what_only_seems_missing_is_listed_anew(
    copied: tuple[Workspace, Workspace], finished: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A network disk lists a folder as it was a minute ago, until something changes in it."""
    workspace, _ = copied
    hidden = largest_file(workspace.fragments / "c")
    refreshed = []
    scandir, make = os.scandir, tempfile.NamedTemporaryFile

    def stale(path: Any) -> Any:
        if str(path) == str(hidden.parent) and not refreshed:
            return scandir(workspace.path / "logs")
        return scandir(path)

    def making(**given: Any) -> Any:
        refreshed.append(given["dir"])
        return make(**given)

    (workspace.path / "logs").mkdir(exist_ok=True)
    monkeypatch.setattr(os, "scandir", stale)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", making)
    pipeline.run(options(str(finished / "V.zarr"), tiny_model, output=str(workspace.path)))
    assert hidden.parent in refreshed
    assert "missing" not in caplog.text
