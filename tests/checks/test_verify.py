"""`neuroseg verify`: equal runs are reported as identical, and every kind of difference is found and located."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from neuroseg.checks.verify import cuts_of
from neuroseg.cli.main import exit_code
from neuroseg.evaluation.artifacts import compared
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.arrays import open_array
from neuroseg.storage.parts import part_path, read_table, write_table
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import EDGES, TREE

ARTIFACTS = [
    "affinities.zarr", "fragments.zarr", "sections", "edges", "nodes", "long_range", "bins", "long_range_bins",
    "merges/tree", "merges/lookup",
    "segmentation.zarr/0",
]  # fmt: skip


def test_a_correct_pipeline_is_identical_for_all_cuts(
    raw_volume: str,
    tiny_model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    command = ["verify", raw_volume, "--model", tiny_model, "--crop", "30,32,34", "--at", "7,9,0", "--workers", "2"]
    assert exit_code([*command, "--mask-boundary", "0.4", "-o", str(tmp_path / "f"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["identical"]
    assert report["crop"] == "7:37,9:41,0:34"
    assert [list(cut["artifacts"]) for cut in report["cuts"]] == [ARTIFACTS] * 2
    assert report["cuts"][0]["cut"] == "blocks 15,16,17, 2 workers, killed and resumed"
    assert "was killed; resuming it" in caplog.text, "the first cut was killed"
    labels = open_array(tmp_path / "f" / "cut-1.neuroseg" / "segmentation.zarr" / "0")[:]
    assert labels.shape == (30, 32, 34)
    assert len(np.unique(labels)) > 2


@pytest.fixture
def twins(raw_volume: str, tiny_model: str, tmp_path: Path) -> tuple[Workspace, Workspace]:
    given = Options(volume=raw_volume, model=tiny_model, output=str(tmp_path / "a"), executor="serial")
    made, _ = pipeline.run(given)
    shutil.copytree(made.path, tmp_path / "b")
    return made, Workspace(tmp_path / "b")


def test_differences_are_counted_and_located(twins: tuple[Workspace, Workspace]) -> None:
    one, other = twins
    assert [name for name, found in compared(one, other)] == ARTIFACTS
    assert not any(found for _, found in compared(one, other))
    labels = open_array(other.segmentation / "0", writable=True)
    labels[3, 4, 5] += 1
    labels[35, 1, 20] += 1
    edges = read_table(part_path(other.edges, 0), EDGES)
    sums = edges["affinity_sum"].copy()
    sums[2] += 1
    write_table(part_path(other.edges, 0), {**edges, "affinity_sum": sums})
    tree = read_table(other.tree, TREE)
    write_table(other.tree, {name: column[:-1] for name, column in tree.items()})
    found = {name: difference for name, difference in compared(one, other) if difference}
    assert list(found) == ["edges", "merges/tree", "segmentation.zarr/0"]
    assert (found["edges"].count, found["edges"].first) == (1, (2,))
    assert found["merges/tree"].count == 1
    voxels = found["segmentation.zarr/0"]
    assert (voxels.count, voxels.total, voxels.first) == (2, 40 * 50 * 45, (3, 4, 5))
    assert (voxels.begin, voxels.end) == ((3, 1, 5), (36, 5, 21))


def test_a_difference_ends_with_exit_code_1_and_its_place(
    raw_volume: str,
    tiny_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sound = pipeline.run

    def unsound(options: Options, **more: object) -> pipeline.Outcome:
        workspace, summaries = sound(options, **more)  # type: ignore[arg-type]
        if workspace.path.name == "cut-2.neuroseg":
            affinities = open_array(workspace.affinities, writable=True)
            affinities[1, 2, 3, 4] ^= 1
        return workspace, summaries

    monkeypatch.setattr(pipeline, "run", unsound)
    command = ["verify", raw_volume, "--model", tiny_model, "--crop", "16", "--workers", "1"]
    assert exit_code(command) == 1
    shown = capsys.readouterr()
    assert (
        "affinities.zarr: 1 of 12288 differ, first at (1, 2, 3, 4) of the crop, all within 1:2,2:3,3:4,4:5" in shown.out
    )
    assert "likely cause: the network gives different bytes" in shown.out
    assert "the result depends on blocks or restarts" in shown.err


def test_odd_blocks_are_never_empty() -> None:
    for crop in ((1, 1, 1), (2, 300, 5)):
        for cut in cuts_of(crop, None, 2):
            assert all(1 <= width <= size for width, size in zip(cut.blocks, crop, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at", "39,0,0", "--crop", "8"], "is not inside the volume"),
        (["--crop", "0"], "--crop '0' contains 0, expected 1 or more"),
        (["--at", "-1,0,0"], "--at '-1,0,0' contains -1, expected 0 or more"),
    ],
)
def test_crops_outside_are_refused(
    raw_volume: str, tiny_model: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["verify", raw_volume, "--model", tiny_model, *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.long
def test_masked_runs_and_runs_that_remove_artifacts_are_compared(
    raw_volume: str, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A mask without a voxel size, and a configuration that would remove the artifacts to compare.
    mask = zarr.create_array(str(tmp_path / "M.zarr"), shape=(40, 50, 45), dtype="u1")
    mask[:, 10:] = 1
    (tmp_path / "c.yaml").write_text("keep: segmentation\nexecutor: serial\n")
    command = ["verify", raw_volume, "--model", tiny_model, "--crop", "16", "--workers", "1", "--at", "0,4,0"]
    more = ["--mask", str(tmp_path / "M.zarr"), "--config", str(tmp_path / "c.yaml"), "-o", str(tmp_path / "f")]
    assert exit_code([*command, *more, "--json"]) == 0
    artifacts = json.loads(capsys.readouterr().out)["cuts"][1]["artifacts"]
    assert list(artifacts) == ARTIFACTS
    labels = open_array(tmp_path / "f" / "whole.neuroseg" / "segmentation.zarr" / "0")[:]
    assert not labels[:, :6].any()
    assert labels[:, 6:].all()


def test_methods_that_cut_by_design_are_not_verified(
    raw_volume: str, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("fragments: seeded-watershed\n")
    command = ["verify", raw_volume, "--model", tiny_model, "--crop", "16", "--config", str(tmp_path / "c.yaml")]
    assert exit_code(command) == 2
    assert "nothing to verify" in capsys.readouterr().err
    assert exit_code(["verify", raw_volume, "--model", tiny_model, "--crop", "16", "--blocks", "16"]) == 2
    assert "does not divide the crop" in capsys.readouterr().err
