"""`check` finds missing and damaged files, and changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from neuroseg.cli.main import exit_code
from neuroseg.runs import pipeline
from tests.conftest import temporary_kept
from tests.runs.test_damage import alter, cut_short, largest_file
from tests.runs.test_stages import boundaries


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with temporary_kept():
        return pipeline.segment(boundaries(tmp_path_factory.mktemp("finished"), "serial"))[0].path


@pytest.mark.parametrize(
    ("artifact", "stage"),
    [
        ("provisional.zarr/c", "fragments"), ("fragments.zarr/c", "edges"), ("nodes", "edges"),
        ("merges/lookup.npy", "lookup"), ("segmentation.zarr/0/c", "relabel"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("damage", "kind"), [(cut_short, "missing"), (alter, "damaged")])
def test_missing_and_damaged_files_are_found(
    artifact: str, stage: str, damage: Callable[[Path], None], kind: str, finished: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    workspace = tmp_path / "w"
    shutil.copytree(finished, workspace)
    assert exit_code(["check", str(workspace), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["whole"]
    file = largest_file(workspace / artifact)
    damage(file)
    content = file.read_bytes()
    assert exit_code(["check", str(workspace), "--json"]) == 1
    found = {row["stage"]: row for row in json.loads(capsys.readouterr().out)["stages"]}
    assert [name for name, row in found.items() if row["missing"] or row["damaged"]] == [stage]
    assert len(found[stage][kind]) == 1
    assert file.read_bytes() == content
    assert exit_code(["check", str(workspace)]) == 1
    told = capsys.readouterr()
    assert f"1 {kind}" in told.out
    assert (str(file) in told.out) == (kind == "damaged")
    if file.suffix == ".npy":
        return  # a missing artifact of one file cannot be told from a deleted one
    # The hint works: deleted files are recomputed.
    file.unlink()
    assert exit_code(["status", str(workspace)]) == 0
    assert "missing on disk: 1 of the done blocks" in capsys.readouterr().out
    assert exit_code(["segment", str(workspace)]) == 0
    assert exit_code(["check", str(workspace)]) == 0
