"""Concurrent stages: blocks start early, names may refer to later parts, a failure stops only its readers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from neuroseg.affinities.stage import AffinitiesStage
from neuroseg.blocks import Block
from neuroseg.errors import BlocksFailedError
from neuroseg.evaluation.artifacts import compared
from neuroseg.execution.scheduler import Schedule
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.runs.plan import read_plan
from neuroseg.runs.stages import StageSummary
from neuroseg.storage.workspace import Workspace
from tests.conftest import make_volume, temporary_kept

OFFSETS = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]


def run(volume: str, model: str, workspace: Path, **more: object) -> tuple[Workspace, list[StageSummary]]:
    given_ = {"volume": volume, "model": model, "output": str(workspace), "blocks": "16", "executor": "serial", **more}
    return pipeline.run(Options.model_validate(given_))


def differing(one: Workspace, other: Workspace) -> list[str]:
    return [name for name, difference in compared(one, other) if difference]


def done_at(workspace: Workspace, stage: str) -> dict[int, float]:
    """Return when each block of a stage was done."""
    return {record["block"]: record["time"] for record in workspace.ledger(stage, {}).records()}


@pytest.fixture(scope="module")
def long_volume(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve blocks of 16 in a row, along x."""
    return make_volume(tmp_path_factory.mktemp("long") / "V.zarr", (16, 16, 192))


@pytest.fixture(scope="module")
def whole(long_volume: str, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The long volume, segmented as one block."""
    return run(long_volume, tiny_model, tmp_path_factory.mktemp("whole") / "w", blocks="192")[0]


@pytest.mark.parametrize("executor", ["serial", "local"])
def test_later_stages_begin_while_earlier_ones_go_on(
    executor: str, long_volume: str, tiny_model: str, whole: Workspace, tmp_path: Path
) -> None:
    made, _ = run(long_volume, tiny_model, tmp_path / "w", executor=executor, workers=1)
    assert differing(made, whole) == []
    affinities, fragments, edges = (done_at(made, stage) for stage in ("affinities", "fragments", "edges"))
    assert min(fragments.values()) < sorted(affinities.values())[6], "long before the last"
    assert min(edges.values()) < sorted(fragments.values())[6]
    relabel, coarse = done_at(made, "relabel"), done_at(made, "pyramid")
    assert min(coarse.values()) < max(relabel.values())


def failing(block: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make a block of affinities fail until the returned function is called."""
    opened = AffinitiesStage.open

    class Failing:
        def __init__(self, held: Any) -> None:
            self.held = held

        def __enter__(self) -> Callable[[Block], Any]:
            process = self.held.__enter__()

            def fail(taken: Block) -> Any:
                if taken.index == block:
                    raise ValueError("injected")
                return process(taken)

            return fail

        def __exit__(self, *given_: object) -> Any:
            return self.held.__exit__(*given_)

    monkeypatch.setattr(AffinitiesStage, "open", lambda stage: Failing(opened(stage)))
    return lambda: monkeypatch.setattr(AffinitiesStage, "open", opened)


def test_a_failed_block_stops_only_what_needs_it(
    long_volume: str, tiny_model: str, whole: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repair = failing(6, monkeypatch)
    with pytest.raises(BlocksFailedError) as failed:
        run(long_volume, tiny_model, tmp_path / "w")
    message = str(failed.value)
    assert message.startswith("1 block of stage affinities failed:\n  stage affinities, block 6 ("), message
    assert "its worker died" not in message
    assert "of stage fragments" not in message
    workspace = Workspace(tmp_path / "w")
    assert sorted(done_at(workspace, "affinities")) == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    # Fragments look 20 voxels, thus two blocks, around; edges read the fragments of the blocks beside them.
    assert sorted(done_at(workspace, "fragments")) == [0, 1, 2, 3, 9, 10, 11]
    assert sorted(done_at(workspace, "edges")) == [0, 1, 2, 10, 11]
    repair()
    made, summaries = run(long_volume, tiny_model, tmp_path / "w")
    assert {summary.stage: summary.blocks for summary in summaries[:3]} == {"affinities": 1, "fragments": 5, "edges": 7}
    assert differing(made, whole) == []


def smooth_affinities(shape: tuple[int, int, int]) -> np.ndarray:
    """Return affinities `(3, z, y, x)` of wide basins: ascents cross several blocks of a few voxels."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(3).random((3, *shape)), (0, 3, 6, 6))
    return np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def snake(shape: tuple[int, int, int]) -> np.ndarray:
    """Return affinities `(3, z, y, x)` of one neurite that winds through a volume: ascents run on for many blocks."""
    _, y, x = np.indices(shape)
    along = np.where(y % 2 == 0, x, shape[2] - 1 - x) + shape[2] * y
    height = 0.5 + 0.5 * along / along.max()
    return np.broadcast_to(np.round(255 * height), (3, *shape)).astype(np.uint8)


def segmented(path: Path, affinities: np.ndarray, name: str, **more: object) -> Workspace:
    """Segment affinities in a zarr next to `path`. Create it if it does not exist."""
    if not (path / "A.zarr").exists():
        attributes = {"offsets": OFFSETS, "voxel_size": [10, 10, 10]}
        array = zarr.create_array(str(path / "A.zarr"), shape=affinities.shape, dtype="u1", attributes=attributes)
        array[:] = affinities
    given_ = {"affinities": str(path / "A.zarr"), "output": str(path / name), "executor": "serial", **more}
    return pipeline.segment(Options.model_validate(given_))[0]


def count_put_off(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return a list to which (artifact, block) is added for each part that was not written yet."""
    seen: list[tuple[str, int]] = []
    put_off = Schedule.put_off

    def noted(schedule: Schedule, key: Any, artifact: str, index: int) -> None:
        seen.append((artifact, index))
        put_off(schedule, key, artifact, index)

    monkeypatch.setattr(Schedule, "put_off", noted)
    return seen


@pytest.mark.parametrize("workers", [None, 2])
def test_names_that_lead_to_blocks_to_come_are_followed_when_they_are_there(
    workers: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    affinities = smooth_affinities((4, 20, 40))
    seen = count_put_off(monkeypatch)
    executor = {"executor": "local", "workers": workers} if workers else {}
    cut = segmented(tmp_path, affinities, "cut", blocks="4,3,3", **executor)
    assert seen, "blocks this small lead names past their neighbours"
    assert {artifact for artifact, _ in seen} == {"entries"}
    assert differing(cut, segmented(tmp_path, affinities, "whole", blocks="64")) == []
    assert not (cut.path / "failures").exists()
    assert cut.ledger("edges", {}).failed() == set()


@settings(max_examples=5)
@given(st.integers(0, 10_000), st.tuples(*[st.integers(2, 9)] * 3))
def test_any_blocks_give_the_bytes_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, seed: int, blocks: tuple[int, int, int]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    values = np.random.default_rng(seed).random((3, 9, 14, 16))
    smooth = ndimage.gaussian_filter(values, (0, 1, 2, 2))
    affinities = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    cut = segmented(folder, affinities, "cut", blocks=",".join(map(str, blocks)))
    assert differing(cut, segmented(folder, affinities, "whole", blocks="16")) == []


def test_parts_of_an_earlier_region_are_not_taken_for_those_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks at the face of a region have other parts when it grows. No name may be followed through the old parts."""
    affinities = smooth_affinities((4, 20, 40))
    segmented(tmp_path, affinities, "grown", blocks="4,3,3", roi="0:4,0:10,0:22")
    seen = count_put_off(monkeypatch)
    grown = segmented(tmp_path, affinities, "grown", blocks="4,3,3")
    assert any(done_before(block) for _, block in seen), "parts of the smaller region were looked for"
    assert differing(grown, segmented(tmp_path, affinities, "fresh", blocks="64")) == []


def done_before(block: int) -> bool:
    """Whether a block of `4,3,3` of 4 x 20 x 40 voxels touches the smaller region."""
    return block // 14 < 4 and block % 14 < 8


def test_a_part_that_is_lost_for_good_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run must not wait for a part that was removed."""
    affinities = snake((6, 30, 36))
    whole = segmented(tmp_path, affinities, "whole", blocks="64")
    with temporary_kept():
        made = segmented(tmp_path, affinities, "w", blocks="4,9,9")
    plan = read_plan(made)
    stage = next(stage for stage in plan.stages(made) if stage.name == "edges")
    ledger = made.ledger(stage.name, stage.identity, stage.scope)
    ledger.clear([replace(block) for block in stage.lattice.blocks(stage.halo)])
    (made.entries / "00000005.parquet").unlink()
    seen = count_put_off(monkeypatch)
    again = segmented(tmp_path, affinities, "w", blocks="4,9,9")
    assert seen == [], "what is missing is made before the first block of edges"
    assert differing(again, whole) == []


def test_what_is_shown_tells_each_stage_from_the_others(long_volume: str, tiny_model: str, tmp_path: Path) -> None:
    shown: dict[str, list[tuple[int, int]]] = {}

    def begin(stage: str, blocks: int, voxels: int) -> Callable[[int, int], None]:
        assert re.fullmatch(r"[a-z]+(-\d)?", stage)
        return lambda done, failed: shown.setdefault(stage, []).append((done, failed))

    options = Options.model_validate(
        {
            "volume": long_volume,
            "model": tiny_model,
            "output": str(tmp_path / "w"),
            "blocks": "16",
            "executor": "serial",
        }
    )
    _, summaries = pipeline.run(options, begin=begin)
    assert {stage: seen[-1] for stage, seen in shown.items()} == {s.stage: (s.blocks, 0) for s in summaries}
    assert all(summary.seconds > 0 for summary in summaries)
