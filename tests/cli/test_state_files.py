"""State files that a crash, a full disk or a user left empty or wrong: an error message, or ignored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from neuroseg.cli.main import exit_code
from neuroseg.runs import pipeline
from neuroseg.storage.arrays import open_array
from neuroseg.storage.state import entries_in, mapping_in
from neuroseg.storage.workspace import Workspace
from tests.runs.test_stages import boundaries

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "binary": lambda content: bytes(range(128, 256)),
    "null": lambda content: b"null",
    "cut yaml": lambda content: b"x: [",
    "other": lambda content: b'{"a": 1}',
    "nested": lambda content: b"[" * 20000,
    "types": lambda content: b'[{"name": [], "time": "x", "files": 3}]',
    "date": lambda content: b"x: 2001-99-99",
}
# The others differ from these in how they are parsed, which the readers of state files have in common.
QUICK = ("empty", "nested", "other", "types")
FILES = (
    "run.yaml", ".lock", ".lock.owner", "jobs.json", "ledger/published", "ledger/fragments/identity.yaml",
    "ledger/edges/marks", "ledger/fragments/marks", "ledger/lookup/marks",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished segmentation, in two blocks, and the files of other kinds of runs."""
    folder = tmp_path_factory.mktemp("finished")
    workspace = pipeline.segment(boundaries(folder, "serial").model_copy(update={"blocks": "32,32,20"}))[0]
    for name in ("jobs.json", ".lock.owner"):
        path = workspace.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('[{"name": "neuroseg-0", "job": "1", "over": true}]')
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished / "w", tmp_path / "w")
    return tmp_path / "w"


def labels(workspace: Path) -> np.ndarray:
    return np.asarray(open_array(workspace / "segmentation.zarr" / "0")[:])


def commands(workspace: Path, finished: Path) -> list[list[str]]:
    """Commands that read a workspace. The last one recomputes what is missing, if it can."""
    truth = str(finished / "w" / "segmentation.zarr")
    return [
        ["status", str(workspace)], ["status", str(workspace), "--json"],
        ["evaluate", str(workspace), "--truth", truth, "--sweep"], ["replay", str(workspace), "edges", "0"],
        ["segment", str(workspace), "--executor", "serial"],
    ]  # fmt: skip


def damaged(workspace: Path, name: str, damage: str) -> None:
    path = workspace / name
    path = next(path.iterdir()) if path.is_dir() else path
    path.write_bytes(DAMAGES[damage](path.read_bytes()))


@pytest.mark.parametrize(
    "damages",
    [
        pytest.param(QUICK, id="quick"),
        pytest.param(tuple(DAMAGES.keys() - set(QUICK)), marks=pytest.mark.long, id="others"),
    ],
)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_state_file_gives_a_message_or_is_ignored(
    name: str, damages: tuple[str, ...], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for damage in damages:
        workspace = tmp_path / damage / "w"
        shutil.copytree(finished / "w", workspace)
        damaged(workspace, name, damage)
        for command in commands(workspace, finished):
            code, told = exit_code(command), capsys.readouterr().err
            assert code in (0, 1, 2), (damage, command)
            assert "add --debug" not in told, (damage, command, told)
            assert "Traceback" not in told, (damage, command, told)
            if name == "run.yaml":
                assert code == 2
                assert "run.yaml" in told
        if name != "run.yaml":
            assert code == 0, (damage, told)
            assert np.array_equal(labels(workspace), labels(finished / "w")), damage


def test_a_run_without_its_description_is_restored_by_its_command(copied: Path, finished: Path) -> None:
    (copied / "run.yaml").unlink()
    given = ["segment", "--boundaries", str(finished / "B.zarr"), "-o", str(copied), "--executor", "serial"]
    assert exit_code([*given, "--blocks", "32,32,20"]) == 0
    records = [Workspace(each).ledger("fragments", {}).records() for each in (copied, finished / "w")]
    assert records[0] == records[1], "what was done is kept"


def with_plan(workspace: Path, **changes: object) -> None:
    content = yaml.safe_load((workspace / "run.yaml").read_text())
    content["plan"] |= changes
    (workspace / "run.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.parametrize("command", ["status", "segment"])
def test_a_region_of_too_many_blocks_is_refused(command: str, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_plan(copied, shape=[10**6, 10**6, 10**5], roi="0:1000000,0:1000000,0:100000")
    assert exit_code([command, str(copied)]) == 2
    assert "into more than 100000000 blocks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blocks", [0, 0, 0]), ("blocks", [-8, 8, 8]), ("blocks", [1, 1, 10**30]), ("shape", [0, 1, 1]),
        ("shape", [10**9, 10**9, 10**9]), ("predicted_blocks", [0, 1, 1]),
        ("voxel_size_nm", [0.0, 1.0, 1.0]), ("voxel_size_nm", [float("inf"), 1.0, 1.0]), ("workers", -3),
        ("offset_nm", [float("nan"), 0.0, 0.0]), ("threshold", float("nan")), ("min_size_voxels", -1),
        ("min_size_voxels", 10**30), ("level", -1), ("block_timeout_s", 0), ("kind", "volume"), ("roi", "1:2"),
        ("blocks", "many"), ("shape", None), ("offsets", {}), ("offsets", [[0, 0, 0]]), ("scoring", "median"),
        ("offsets", []), ("fragments", "magic"), ("agglomeration", "magic"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["status", "segment"])
def test_numbers_that_no_run_can_have_are_refused(
    key: str, value: object, command: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_plan(copied, **{key: value})
    assert exit_code([command, str(copied)]) == 2
    told = capsys.readouterr().err
    assert "add --debug" not in told
    assert key.split("_")[0] in told.lower()


def test_a_workspace_of_a_newer_version_is_refused_by_name(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = yaml.safe_load((copied / "run.yaml").read_text())
    content |= {"neuroseg": "99.1.0"}
    content["plan"]["unheard_of"] = 1
    (copied / "run.yaml").write_text(yaml.safe_dump(content))
    for command in commands(copied, copied.parent):
        assert exit_code(command) == 2
        told = capsys.readouterr().err
        assert "neuroseg 99.1.0, which is newer than this version" in told
        assert "unheard_of" not in told


@pytest.mark.parametrize("version", ["0.0.1", "0.1", "0.1.0.dev1", 7, None, "next"])
def test_other_versions_are_read(version: object, copied: Path) -> None:
    content = yaml.safe_load((copied / "run.yaml").read_text()) | {"neuroseg": version}
    (copied / "run.yaml").write_text(yaml.safe_dump(content))
    assert exit_code(["status", str(copied)]) == 0


def test_results_of_other_settings_are_kept_if_their_record_is_damaged(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "ledger" / "fragments" / "identity.yaml").write_bytes(b"")
    before = labels(copied)
    assert exit_code(["segment", str(copied), "--blocks", "16", "--executor", "serial"]) == 2
    assert (
        "identity.yaml is damaged, and its 2 done blocks were computed with other settings" in capsys.readouterr().err
    )
    assert np.array_equal(labels(copied), before)
    assert exit_code(["segment", str(copied), "--executor", "serial"]) == 0
    assert mapping_in(copied / "ledger" / "fragments" / "identity.yaml"), "it is recorded again"


def test_a_state_file_of_another_type_counts_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for content, mapping, entries in (
        ({"a": 1}, {"a": 1}, None), ([{"a": 1}], None, [{"a": 1}]), ([1, 2], None, None), ([], None, []),
        (3, None, None),
    ):  # fmt: skip
        path.write_text(json.dumps(content))
        assert (mapping_in(path), entries_in(path)) == (mapping, entries)
    path.write_bytes(b"\xff{")
    assert (mapping_in(path), mapping_in(tmp_path / "none"), mapping_in(tmp_path)) == (None, None, None)
    (tmp_path / "b.yaml").write_text("1: 2")
    assert mapping_in(tmp_path / "b.yaml") is None


def test_options_of_another_kind_are_refused(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = yaml.safe_load((copied / "run.yaml").read_text()) | {"options": 3}
    (copied / "run.yaml").write_text(yaml.safe_dump(content))
    assert exit_code(["segment", str(copied)]) == 2
    assert "add --debug" not in capsys.readouterr().err
