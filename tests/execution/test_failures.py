"""The description of a failed block, and replaying it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuroseg.cli.main import exit_code
from neuroseg.errors import BlocksFailedError
from neuroseg.execution.block import ledger_of
from neuroseg.execution.failures import failure_folder
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.runs.plan import read_plan
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from tests.conftest import make_volume
from tests.execution.test_executors import arrays, options


@pytest.fixture
def failed(tiny_model: str, tmp_path: Path) -> tuple[Workspace, Callable[[], object]]:
    """A run in which blocks 0 to 2 of fragments failed, because a shard is damaged, and a function that repairs it."""
    volume = make_volume(tmp_path / "V.zarr", (96, 20, 20))
    workspace, _ = pipeline.predict(options(volume, tiny_model, tmp_path / "w", blocks="16,32,32", executor="serial"))
    shard = workspace.affinities / "c" / "0" / "0" / "0" / "0"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2].ljust(len(whole), b"\0"))
    with pytest.MonkeyPatch.context() as patch:
        # Otherwise the shard would be found and recomputed.
        patch.setattr("neuroseg.runs.damage._MAX_EXAMINED", 0)
        with pytest.raises(BlocksFailedError, match="neuroseg replay"):
            pipeline.segment(Options(volume=str(workspace.path), executor="serial"))
    return workspace, lambda: shard.write_bytes(whole)


def test_a_failure_is_described(failed: tuple[Workspace, Callable[[], object]]) -> None:
    workspace, _ = failed
    folder = failure_folder(workspace.path, "fragments", 1)
    about = json.loads((folder / "block.json").read_text())
    assert (about["stage"], about["block"], about["write_roi"]) == ("fragments", 1, "16:32,0:20,0:20")
    assert about["read_roi"] == "0:50,0:20,0:20"
    assert {"host", "process", "neuroseg", "packages"} <= about.keys()
    assert "Traceback" in (folder / "traceback.txt").read_text()
    (given,) = json.loads((folder / "inputs.json").read_text())
    assert given["input"] == "affinities.zarr"
    assert given["error"], "what cannot be read says so"
    assert (folder / "log.txt").exists()
    assert not failure_folder(workspace.path, "fragments", 3).exists()


def test_inputs_are_described_by_checksum_and_statistics(
    failed: tuple[Workspace, Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, repair = failed
    repair()

    def broken(*given: object, **more: object) -> None:
        raise ValueError("injected")

    with monkeypatch.context() as patch:
        patch.setattr("neuroseg.edges.stage.block_nodes", broken)
        with pytest.raises(BlocksFailedError, match="ValueError: injected"):
            pipeline.segment(Options(volume=str(workspace.path), executor="serial"))
    assert not failure_folder(workspace.path, "fragments", 1).exists(), "what is past is forgotten"
    given = {row["input"]: row for row in json.loads(
        (failure_folder(workspace.path, "edges", 2) / "inputs.json").read_text()
    )}  # fmt: skip
    stored = np.asarray(open_array(workspace.affinities)[:, 31:49])
    assert given["affinities.zarr"]["mean"] == pytest.approx(stored.mean())
    assert given["provisional.zarr"]["shape"] == [18, 20, 20]
    assert len(given["entries"]["sha256"]) == 64


def test_a_block_is_done_again_by_itself(
    failed: tuple[Workspace, Callable[[], object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, repair = failed
    where = str(workspace.path)
    assert exit_code(["status", where]) == 0
    assert f"neuroseg replay {where} fragments 0" in capsys.readouterr().out, "the first of those that failed alike"
    assert exit_code(["replay", where, "fragments", "1"]) == 1
    message = capsys.readouterr().err
    assert "Traceback" in message
    assert "block 1 failed again" in message
    repair()
    assert exit_code(["replay", where, "fragments", "1", "--serial"]) == 0
    assert not failure_folder(workspace.path, "fragments", 1).exists()
    _, summaries = pipeline.segment(Options(volume=where, executor="serial"))
    assert summaries[0].blocks == 2, "block 1 counts as done"
    fresh, _ = pipeline.segment(
        Options(affinities=str(workspace.affinities), output=str(tmp_path / "f"), executor="serial")
    )
    assert np.array_equal(arrays(workspace)["fragments.zarr"], open_array(fresh.fragments)[:])


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (("fragments", "6"), "no block 6 (valid: 0 to 5, 6 blocks)"),
        (("fragmnts", "0"), "did you mean fragments"),
        (("relabel", "0"), "has not begun"),
    ],
)
def test_what_cannot_be_replayed_is_said(
    failed: tuple[Workspace, Callable[[], object]],
    block: tuple[str, str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code(["replay", str(failed[0].path), *block]) == 2
    assert message in capsys.readouterr().err


def test_a_block_is_not_done_before_what_it_reads(
    failed: tuple[Workspace, Callable[[], object]], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, repair = failed
    repair()
    pipeline.segment(Options(volume=str(workspace.path), executor="serial"))
    stage = read_plan(workspace).stage(workspace, "fragments")
    ledger_of(workspace, stage).clear([stage.lattice.block(0, stage.halo)])
    assert exit_code(["replay", str(workspace.path), "edges", "0"]) == 2
    assert "stage edges needs stage fragments, which is not complete (1 of" in capsys.readouterr().err
