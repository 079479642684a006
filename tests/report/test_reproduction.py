"""The command of a report repeats the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from neuroseg.cli.main import exit_code
from neuroseg.report.reproduction import command_of
from neuroseg.runs.plan import read_options, read_plan
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from neuroseg.testing.workspaces import synthetic_affinities


def recorded(workspace: Path, output: Path, *, is_predicted_only: bool = False) -> list[str]:
    """The words of the command of a workspace, with another output."""
    found = Workspace(workspace)
    return command_of(read_options(found), read_plan(found), str(output), is_predicted_only=is_predicted_only)


def test_the_command_of_a_segmentation_gives_the_same_labels(tmp_path: Path) -> None:
    source = tmp_path / "it's affinities.zarr"
    zarr.create_array(str(source), data=synthetic_affinities(), chunks=(3, 8, 16, 32))
    arguments = ["segment", "--affinities", str(source), "-o", str(tmp_path / "a"), "--blocks", "8,16,32"]
    arguments += ["--offsets=-1,0,0;0,-1,0;0,0,-1", "--voxel-size", "20", "10.5", "10.5", "--roi", "0:14,2:30,0:40"]
    arguments += ["--executor", "serial", "--min-size", "20", "--per-section", "on", "--no-report"]
    assert exit_code(arguments) == 0
    assert exit_code(["segment", str(tmp_path / "a"), "--threshold", "0.7", "--no-report"]) == 0
    words = recorded(tmp_path / "a", tmp_path / "b")
    assert words[:3] == ["neuroseg", "segment", "--affinities"]
    assert exit_code([*words[1:], "--no-report"]) == 0
    one, other = (np.asarray(open_array(tmp_path / name / "segmentation.zarr" / "0")[:]) for name in "ab")
    assert one.any()
    assert np.array_equal(one, other)


@pytest.mark.parametrize("verb", ["predict", "run"])
def test_the_command_of_a_raw_volume_plans_the_same_run(
    verb: str, raw_volume: str, tiny_model: str, tmp_path: Path
) -> None:
    arguments = [verb, raw_volume, "--model", tiny_model, "-o", str(tmp_path / "a"), "--blocks", "32", "--invert"]
    arguments += ["--range", "20", "220", "--executor", "serial", "--force", "--no-report"]
    assert exit_code(arguments) == 0
    words = recorded(tmp_path / "a", tmp_path / "b", is_predicted_only=verb == "predict")
    assert words[1:3] == [verb, raw_volume]
    assert exit_code([*words[1:], "--no-report"]) == 0
    assert read_plan(Workspace(tmp_path / "a")) == read_plan(Workspace(tmp_path / "b"))
