"""The files that `--keep` and `neuroseg clean` remove, and the commands that still work afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from neuroseg.cli.main import exit_code
from neuroseg.errors import InputError
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from tests.conftest import make_volume, temporary_kept

Run = tuple[Workspace, Options]


@pytest.fixture(scope="module")
def whole(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Options:
    """The options of a finished run."""
    folder = tmp_path_factory.mktemp("whole")
    volume = make_volume(folder / "V.zarr", (40, 50, 45))
    options = Options(volume=volume, model=tiny_model, output=str(folder / "w"), blocks="32", executor="serial")
    pipeline.run(options)
    return options


@pytest.fixture
def finished(whole: Options, tmp_path: Path) -> Run:
    """A copy of the finished run, to be cleaned, and its options."""
    shutil.copytree(str(whole.output), tmp_path / "w")
    return Workspace(tmp_path / "w"), whole.model_copy(update={"output": str(tmp_path / "w")})


def labels(workspace: Workspace) -> np.ndarray:
    return np.asarray(open_array(workspace.segmentation / "0")[:])


def test_clean_keeps_what_another_threshold_needs(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    workspace, options = finished
    before = labels(workspace)
    capsys.readouterr()
    assert exit_code(["clean", str(workspace.path), "--dry-run", "--json"]) == 0
    announced = json.loads(capsys.readouterr().out)
    assert announced["removed"] == []
    assert announced["bytes"] > 0
    assert exit_code(["clean", str(workspace.path), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["removed"] == announced["would_remove"] == ["affinities.zarr", "edges", "nodes"]
    assert not any((workspace.path / name).exists() for name in done["removed"])
    _, summaries = pipeline.run(options)
    assert not any(summary.blocks for summary in summaries), "a finished run stays finished"
    pipeline.segment(Options(volume=str(workspace.path), threshold=1))
    assert labels(workspace).max() < before.max()


def test_a_stage_whose_input_was_removed_says_how_to_make_it_again(finished: Run) -> None:
    workspace, options = finished
    before = labels(workspace)
    assert exit_code(["clean", str(workspace.path), "--keep", "segmentation"]) == 0
    assert np.array_equal(labels(workspace), before)
    for stage in ("relabel", "edges", "fragments"):
        with pytest.raises(
            InputError,
            match=r"needs .*affinities\.zarr, .*\nhint: recompute it: neuroseg run .*/w --restart affinities",
        ):
            pipeline.run(options, restart=stage)
        assert np.array_equal(labels(workspace), before), "a refused restart removes nothing"
    pipeline.run(options, restart="affinities")
    assert np.array_equal(labels(workspace), before)


def test_keep_removes_at_the_end_of_a_run(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    options = Options(volume=raw_volume, model=tiny_model, output=str(tmp_path / "w"), blocks="32", keep="segmentation")
    workspace, _ = pipeline.run(options.model_copy(update={"executor": "serial"}))
    assert labels(workspace).any()
    assert not workspace.affinities.exists()
    assert not workspace.fragments.exists()


def test_an_unfinished_run_is_not_cleaned(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    given = Options(volume=raw_volume, model=tiny_model, output=str(tmp_path / "w"), blocks="64", executor="serial")
    workspace, _ = pipeline.predict(given)
    assert exit_code(["clean", str(workspace.path)]) == 2
    assert workspace.affinities.exists()
    assert exit_code(["clean", str(workspace.path), "--keep", "fragment"]) == 2


def test_a_larger_region_predicts_again_what_was_removed(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    given = Options(
        volume=raw_volume, model=tiny_model, output=str(tmp_path / "w"), blocks="16,32,32", executor="serial"
    )
    pipeline.run(given.model_copy(update={"roi": "0:16,0:50,0:45", "keep": "fragments"}))
    grown, _ = pipeline.run(given)
    fresh, _ = pipeline.run(given.model_copy(update={"output": str(tmp_path / "f")}))
    assert np.array_equal(open_array(grown.affinities)[:], open_array(fresh.affinities)[:])
    assert np.array_equal(labels(grown), labels(fresh))
    assert grown.affinities.exists(), "--keep is not remembered"


def test_predict_makes_removed_affinities_again(finished: Run) -> None:
    workspace, options = finished
    before = open_array(workspace.affinities)[:]
    assert exit_code(["clean", str(workspace.path)]) == 0
    pipeline.predict(options)
    assert np.array_equal(open_array(workspace.affinities)[:], before)


def test_an_array_that_was_barely_begun_is_made_again(finished: Run) -> None:
    workspace, options = finished
    before = labels(workspace)
    with temporary_kept():
        pipeline.run(options, restart="fragments")
    for name in ("provisional.zarr", "fragments.zarr", "entries"):
        shutil.rmtree(workspace.path / name)
        (workspace.path / name).mkdir()
    workspace.ledger("fragments", {}).forget_blocks()
    (workspace.path / "ledger" / "published").unlink()
    pipeline.run(options)
    assert np.array_equal(labels(workspace), before)


def test_other_blocks_for_the_segmentation_than_for_the_prediction(finished: Run) -> None:
    workspace, _ = finished
    before = labels(workspace)
    other = Options(volume=str(workspace.path), blocks="20", executor="serial")
    pipeline.segment(other, restart="fragments")
    fragments, affinities = open_array(workspace.fragments), open_array(workspace.affinities)
    assert (fragments.shards or fragments.chunks) != (affinities.shards or affinities.chunks)[1:]
    assert np.array_equal(labels(workspace), before)


def test_what_an_interrupted_removal_left_is_removed(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    workspace, _ = finished
    left = workspace.path / ".edges.removed"
    left.mkdir()
    (left / "0.parquet").write_bytes(b"half")
    capsys.readouterr()
    assert exit_code(["clean", str(workspace.path), "--keep", "all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == [".edges.removed"]
    assert not left.exists()
    assert workspace.edges.exists()


def test_evaluate_after_clean(finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace, _ = finished
    truth = str(workspace.segmentation / "0")
    evaluate = ["evaluate", str(workspace.path), "--truth", truth, "--json"]

    def scores(*more: str) -> dict[str, object]:
        capsys.readouterr()
        assert exit_code([*evaluate, *more]) == 0
        return dict(json.loads(capsys.readouterr().out))

    before = scores("--sweep")
    assert exit_code(["clean", str(workspace.path), "--keep", "fragments"]) == 0
    assert scores("--sweep") == before
    assert exit_code(["clean", str(workspace.path), "--keep", "segmentation"]) == 0
    assert scores()["voi_sum"] == 0.0
    assert exit_code([*evaluate, "--sweep"]) == 2
    assert "has no fragments or no merge tree" in capsys.readouterr().err
