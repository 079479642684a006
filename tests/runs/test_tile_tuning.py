"""Measured tiles: which are tried, what is skipped, and the bundle that results."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from neuroseg.cli.main import exit_code
from neuroseg.errors import NeurosegError
from neuroseg.networks.bundle import open_bundle
from neuroseg.networks.card import TileCard
from neuroseg.networks.windows import MOST_WINDOW_VOXELS, WindowRule
from neuroseg.runs import tile_tuning
from neuroseg.runs.tile_tuning import Trial, candidates, fastest, tune

LIGHT = WindowRule((8, 8, 8))
CPU = torch.device("cpu")


def passes(tiles: list[TileCard]) -> list[int]:
    return [tile.batch * tile.window_voxels for tile in tiles]


def test_candidates_are_accepted_and_the_smallest_comes_first() -> None:
    tile = TileCard(output_voxels=(64, 64, 64), context_voxels=(32, 32, 32), batch=3)
    found = candidates(LIGHT, tile)
    assert passes(found) == sorted(passes(found))
    assert max(passes(found)) <= MOST_WINDOW_VOXELS
    assert tile in found
    assert {each.context_voxels for each in found} == {(32, 32, 32)}
    assert all(LIGHT.allows([width + 64 for width in each.output_voxels]) for each in found)
    assert any(each.computed_per_kept <= 2 for each in found)
    assert len({(each.output_voxels, each.batch) for each in found}) == len(found)


def test_blended_tiles_differ_in_their_batch_only() -> None:
    tile = TileCard(output_voxels=(16, 16, 16), context_voxels=(8, 8, 8), blend="gaussian")
    found = candidates(LIGHT, tile)
    assert {each.output_voxels for each in found} == {(16, 16, 16)}
    assert len(found) > 1


@pytest.mark.parametrize("blend", ["centre", "gaussian"])
def test_speed_is_that_of_the_voxels_kept(tiny_model: str, blend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tile = TileCard.model_validate(
        {"output_voxels": (16, 16, 16), "context_voxels": (8, 8, 8), "batch": 2, "blend": blend}
    )
    clock = iter(float(second) for second in range(1000))
    monkeypatch.setattr(tile_tuning.time, "monotonic", lambda: next(clock))
    [trial] = tune(open_bundle(tiny_model), CPU, [tile], seconds=2.5, rng=np.random.default_rng(0))
    # Each look at the clock takes a second: 1.5 s are left, so two calls are timed, in two seconds.
    windows = 2 * 2 if blend == "centre" else 2 * 36
    assert trial.mvoxel_per_s == pytest.approx(windows * 16**3 / 2 / 1e6)


def test_tiles_that_run_out_of_memory_are_skipped(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = candidates(LIGHT, TileCard(output_voxels=(16, 16, 16), context_voxels=(8, 8, 8)))[:5]
    real, tried = tile_tuning._windows_and_seconds, []

    def limited(bundle: object, device: object, tile: TileCard, seconds: float, rng: object) -> tuple[int, float]:
        tried.append(tile)
        if tile.batch * tile.window_voxels > passes(tiles)[1]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return real(bundle, device, tile, 0.0, rng)  # type: ignore[arg-type]

    monkeypatch.setattr(tile_tuning, "_windows_and_seconds", limited)
    trials = tune(open_bundle(tiny_model), CPU, tiles, seconds=1e4, rng=np.random.default_rng(0))
    assert [bool(trial.mvoxel_per_s) for trial in trials] == [True, True, False, False, False]
    assert {trial.reason for trial in trials[2:]} == {"not enough memory"}
    assert tried == tiles[:3], "larger ones need not be tried"


def test_tiles_for_which_there_is_no_time_are_skipped(tiny_model: str) -> None:
    tiles = candidates(LIGHT, TileCard(output_voxels=(16, 16, 16), context_voxels=(8, 8, 8)))
    seen: list[Trial] = []
    trials = tune(open_bundle(tiny_model), CPU, tiles, seconds=1e-3, rng=np.random.default_rng(0), observe=seen.append)
    assert seen == trials
    assert trials[0].mvoxel_per_s
    assert {trial.reason for trial in trials[1:]} == {"not enough time (--seconds)"}
    assert fastest(trials) is trials[0]


def test_a_device_without_memory_for_any_tile_is_an_error(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> tuple[int, float]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tile_tuning, "_windows_and_seconds", full)
    bundle = open_bundle(tiny_model)
    with pytest.raises(NeurosegError, match=r"no tile of tiny could be measured: not enough memory"):
        tune(bundle, CPU, [bundle.card.tile], seconds=1, rng=np.random.default_rng(0))


def test_the_command_writes_a_copy_with_the_fastest_tile(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = tmp_path / "tuned"
    command = ["models", "tune", tiny_model, "-o", str(where), "--device", "cpu", "--seconds", "3"]
    assert exit_code([*command, "--json"]) == 0
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert (content["key"], content["device"], content["made"]) == ("tile", "cpu", str(where))
    measured = [row for row in content["measured"] if row["mvoxel_per_s"]]
    assert content["best"] in measured
    assert content["best"]["mvoxel_per_s"] == max(row["mvoxel_per_s"] for row in measured)
    old, new = open_bundle(tiny_model), open_bundle(str(where))
    assert list(new.card.tile.output_voxels) == content["best"]["output_voxels"]
    assert new.card.model_copy(update={"tile": old.card.tile}) == old.card
    assert (new.path / "weights.safetensors").read_bytes() == (old.path / "weights.safetensors").read_bytes()
    assert printed.err.count("\n") >= len(content["measured"]) + 2
    ratio = math.prod(width + 16 for width in content["best"]["output_voxels"])
    assert content["best"]["computed_per_kept"] == pytest.approx(
        ratio / math.prod(content["best"]["output_voxels"]), abs=1e-3
    )
    new.check()


def test_the_model_itself_and_existing_folders_are_not_overwritten(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (Path(tiny_model) / "card.yaml").read_bytes()
    assert exit_code(["models", "tune", tiny_model, "-o", tiny_model]) == 2
    assert "is the model itself" in capsys.readouterr().err
    (tmp_path / "there").mkdir()
    assert exit_code(["models", "tune", tiny_model, "-o", str(tmp_path / "there")]) == 2
    assert "already exists" in capsys.readouterr().err
    assert (Path(tiny_model) / "card.yaml").read_bytes() == before
