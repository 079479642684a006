"""The command `report`: where it writes, and requests that it refuses without writing anything."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from neuroseg.cli.main import exit_code
from neuroseg.testing.workspaces import synthetic_affinities


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    attributes = {"voxel_size": [20, 10, 10], "offset": [0, 0, 0], "offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]}
    zarr.create_array(str(folder / "A.zarr"), data=synthetic_affinities(), chunks=(3, 8, 16, 32), attributes=attributes)
    arguments = ["segment", "--affinities", f"{folder}/A.zarr", "-o", f"{folder}/w", "--executor", "serial"]
    assert exit_code([*arguments, "--no-report"]) == 0
    return folder / "w"


def test_the_report_is_written_into_the_workspace_or_to_a_file(
    workspace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert not (workspace / "report.html").exists()
    assert exit_code(["report", str(workspace)]) == 0
    assert capfd.readouterr().err == f"report: {workspace}/report.html\n"
    assert exit_code(["report", str(workspace), "-o", f"{tmp_path}/r.html", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found == {"workspace": str(workspace), "report": f"{tmp_path}/r.html"}
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_a_run_names_its_report(workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["segment", str(workspace), "--threshold", "0.4"]) == 0
    assert f"report: {workspace}/report.html\n" in capfd.readouterr().err
    assert exit_code(["segment", str(workspace), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["report"] == f"{workspace}/report.html"
    assert exit_code(["segment", str(workspace), "--json", "--no-report"]) == 0
    assert "report" not in json.loads(capfd.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "the workspace nowhere does not exist"),
        (["W", "-o", "report.pdf"], "report.pdf ends in .pdf, expected .html"),
        (["W", "-o", "missing/report.html"], "the folder missing does not exist"),
        (["W", "--truth", "missing.zarr", "-o", "report.html"], "missing.zarr does not exist"),
        (["W", "--truth", "coarse.zarr", "-o", "report.html"], "they must be equal"),
    ],
)
def test_a_wrong_request_is_refused(
    arguments: list[str],
    said: str,
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    attributes = {"voxel_size": [90, 90, 90], "offset": [0, 0, 0]}
    zarr.create_array(f"{tmp_path}/coarse.zarr", data=np.ones((2, 2, 2), np.uint8), attributes=attributes)
    before = sorted(tmp_path.iterdir())
    assert exit_code(["report", *(str(workspace) if word == "W" else word for word in arguments)]) == 2
    message = capfd.readouterr().err
    assert said in message
    assert "Traceback" not in message
    assert sorted(tmp_path.iterdir()) == before
