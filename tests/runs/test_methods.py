"""The alternative methods, and long-range channels, in the whole pipeline."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from scipy import ndimage

from neuroseg.cli.main import exit_code
from neuroseg.errors import InputError, RunRefusedError
from neuroseg.execution.block import ledger_of
from neuroseg.runs import methods as alternatives
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options, options_from
from neuroseg.runs.plan import read_plan
from neuroseg.storage.arrays import open_array
from neuroseg.storage.parts import read_table
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import TREE

pytest.importorskip("elf")

SHAPE = (14, 26, 22)
DIRECT = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
FAR = [[-3, 0, 0], [0, -9, 0], [0, 0, 9], [-2, 5, 0]]
CUT = ["seeded-watershed", "distance-watershed", "mutex-watershed"]


def smooth(channels: int, seed: int = 5) -> np.ndarray:
    values = ndimage.gaussian_filter(np.random.default_rng(seed).random((channels, *SHAPE)), (0, 1.5, 2, 2))
    values = (values - values.mean()) / (4 * values.std()) + 0.5
    return np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)


def store(path: Path, values: np.ndarray, offsets: list[list[int]]) -> str:
    attributes = {"offsets": offsets, "voxel_size": [10, 10, 10]}
    array = zarr.create_array(str(path), shape=values.shape, dtype="u1", attributes=attributes)
    array[:] = values
    return str(path)


@pytest.fixture
def affinities(tmp_path: Path) -> str:
    return store(tmp_path / "A.zarr", smooth(3), DIRECT)


@pytest.fixture
def far_affinities(tmp_path: Path) -> str:
    return store(tmp_path / "F.zarr", smooth(7), DIRECT + FAR)


def segment(source: str, workspace: Path, restart: str | None = None, **more: object) -> Workspace:
    given = {"affinities": source, "output": str(workspace), "executor": "serial", "blocks": "8,13,22", **more}
    return pipeline.segment(Options.model_validate(given), restart=restart)[0]


def labels(workspace: Workspace) -> np.ndarray:
    return np.asarray(open_array(workspace.segmentation / "0")[:])


def fragments(workspace: Workspace) -> np.ndarray:
    return np.asarray(open_array(workspace.fragments)[:])


def refines(fine: np.ndarray, coarse: np.ndarray) -> bool:
    """Whether every label of `fine` lies in one label of `coarse`."""
    pairs = np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1)
    return len(pairs[0]) == len(np.unique(fine))


@pytest.mark.parametrize("method", CUT)
def test_fragments_end_at_block_faces_with_names_of_their_own(
    affinities: str, tmp_path: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        made = segment(affinities, tmp_path / "w", fragments=method)
    assert "the segmentation depends on --blocks (8,13,22)" in caplog.text
    found = fragments(made)
    block = np.ravel_multi_index([i // n for i, n in zip(np.indices(SHAPE), (8, 13, 22), strict=True)], (2, 2, 1))
    assert refines(found, block)
    assert len(np.unique(found)) > 8
    assert found.min() > 0
    assert refines(found, labels(made))
    for name in np.unique(found).tolist():
        assert found.ravel()[name - 1] == name
    assert labels(made).max() == len(np.unique(labels(made)))


@pytest.mark.parametrize("method", CUT)
def test_a_retried_block_writes_the_same_fragments(affinities: str, tmp_path: Path, method: str) -> None:
    made = segment(affinities, tmp_path / "w", fragments=method)
    before, first = fragments(made), labels(made)
    stage = read_plan(made).stage(made, "fragments")
    ledger_of(made, stage).clear(list(stage.lattice.blocks(stage.halo))[::3])
    segment(affinities, tmp_path / "w", fragments=method)
    np.testing.assert_array_equal(fragments(made), before)
    np.testing.assert_array_equal(labels(made), first)


def test_another_method_is_refused_and_restart_redoes_it(affinities: str, tmp_path: Path) -> None:
    made = segment(affinities, tmp_path / "w")
    expected = labels(made)
    with pytest.raises(RunRefusedError, match="method: 'distance-basins' -> 'seeded-watershed'"):
        segment(affinities, tmp_path / "w", fragments="seeded-watershed")
    with pytest.raises(RunRefusedError, match=r"(?s)method: 'tree' -> 'gaec'.*--restart agglomeration"):
        segment(affinities, tmp_path / "w", agglomeration="gaec")
    segment(affinities, tmp_path / "w", fragments="seeded-watershed", agglomeration="gaec", restart="fragments")
    cut = segment(affinities, tmp_path / "c", fragments="seeded-watershed", agglomeration="gaec")
    np.testing.assert_array_equal(labels(made), labels(cut))
    given = {"fragments": "distance-basins", "agglomeration": "tree"}
    np.testing.assert_array_equal(labels(segment(affinities, tmp_path / "w", restart="fragments", **given)), expected)


@pytest.mark.parametrize("method", ["multicut", "gaec", "waterz"])
def test_partitions_of_distance_basins_do_not_depend_on_the_blocks(
    affinities: str, tmp_path: Path, method: str
) -> None:
    given: dict[str, Any] = {"agglomeration": method, "threshold": 0.45}
    one, other = (segment(affinities, tmp_path / b, blocks=b, **given) for b in ("64", "14,9,22"))
    np.testing.assert_array_equal(labels(one), labels(other))
    assert 1 < labels(one).max() < len(np.unique(fragments(one)))
    assert refines(fragments(one), labels(one))
    for name, column in read_table(one.tree, TREE).items():
        np.testing.assert_array_equal(column, read_table(other.tree, TREE)[name])


@pytest.mark.parametrize("method", ["multicut", "waterz"])
def test_a_partition_takes_minimum_sizes_and_refuses_other_thresholds(
    affinities: str, tmp_path: Path, method: str
) -> None:
    made = segment(affinities, tmp_path / "w", agglomeration=method, threshold=0.4)
    before = labels(made)
    sizes = np.bincount(before.ravel())[1:]
    assert sizes.min() < 60
    segment(affinities, tmp_path / "w", agglomeration=method, threshold=0.4, min_size="60")
    assert np.bincount(labels(made).ravel())[1:].min() >= 60
    assert refines(before, labels(made))
    with pytest.raises(RunRefusedError, match=r"(?s)threshold: 0.4 -> 0.6.*--restart agglomeration"):
        segment(affinities, tmp_path / "w", agglomeration=method, threshold=0.6)
    segment(affinities, tmp_path / "w", agglomeration=method, threshold=0.6, min_size="0", restart="agglomeration")
    assert labels(made).max() < before.max()


def test_a_sweep_of_a_partition_is_refused(affinities: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = segment(affinities, tmp_path / "w", agglomeration="waterz")
    truth = f"{made.segmentation}"
    assert capfd.readouterr().out == ""
    assert exit_code(["evaluate", str(made.path), "--truth", truth, "--sweep"]) == 2
    assert "--agglomeration waterz computes one segmentation, not a merge tree" in capfd.readouterr().err
    assert exit_code(["evaluate", str(made.path), "--truth", truth]) == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"agglomeration": "multicut", "threshold": 1}, r"multicut needs a --threshold above 0 and below 1, found 1"),
        (
            {"agglomeration": "waterz", "scoring": "quantile:42"},
            r"does not work with waterz \(valid: mean, quantile:10, quantile:15",
        ),
        ({"fragments": "seeded-watershed", "per_section": "off"}, "which always works per section"),
        ({"fragments": "mutex-watershed", "per_section": "on"}, "which always works in 3D"),
        ({"long_range": "on"}, "--long-range on needs long-range channels"),
    ],
)
def test_what_a_method_cannot_do_is_refused_before_anything_is_written(
    affinities: str, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        segment(affinities, tmp_path / "w", **more)
    assert not (tmp_path / "w").exists()


def test_a_missing_package_is_named(affinities: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"gaec needs the package elf\nhint: pip install 'neuroseg\[alternatives\]'"):
        segment(affinities, tmp_path / "w", agglomeration="gaec")


def test_a_volume_that_waterz_cannot_hold_is_refused(
    affinities: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alternatives, "free_memory_bytes", lambda: 100_000)
    with pytest.raises(InputError, match="waterz needs the whole region in memory"):
        segment(affinities, tmp_path / "w", agglomeration="waterz")
    segment(affinities, tmp_path / "w", agglomeration="waterz", roi="0:8,0:13,0:12")


@pytest.mark.parametrize("scoring", ["mean", "quantile:50", "quantile:75:all"])
def test_long_range_evidence_does_not_depend_on_the_blocks(far_affinities: str, tmp_path: Path, scoring: str) -> None:
    given: dict[str, Any] = {"scoring": scoring, "long_range": "on"}
    one, other = (segment(far_affinities, tmp_path / b, blocks=b, **given) for b in ("64", "14,7,22"))
    without = segment(far_affinities, tmp_path / "without", scoring=scoring)
    tree, again, plain = (read_table(made.tree, TREE) for made in (one, other, without))
    for name, column in tree.items():
        np.testing.assert_array_equal(column, again[name])
    np.testing.assert_array_equal(labels(one), labels(other))
    assert len(tree["u"]) == len(plain["u"]), "the same fragments touch"
    assert not np.array_equal(tree["score"], plain["score"])


def test_long_range_channels_are_ignored_unless_asked_for(affinities: str, tmp_path: Path) -> None:
    more = np.concatenate([smooth(3), smooth(4, seed=9)])
    source = store(tmp_path / "F.zarr", more, DIRECT + FAR)
    one, other = segment(affinities, tmp_path / "a"), segment(source, tmp_path / "f")
    np.testing.assert_array_equal(labels(one), labels(other))
    assert not other.long_range.exists()


@pytest.mark.parametrize("long_range", ["off", "on"])
def test_channels_may_come_in_any_order_and_far_ones_point_either_way(tmp_path: Path, long_range: str) -> None:
    values, offsets = smooth(7), DIRECT + FAR
    order = [4, 2, 6, 0, 3, 1, 5]
    # What v stores of its link to v + offset, v + offset stores of its link by -offset.
    turned = [np.roll(values[c], offsets[c], (0, 1, 2)) if c > 2 else values[c] for c in order]
    steps = [[-step for step in offsets[c]] if c > 2 else offsets[c] for c in order]
    one = segment(store(tmp_path / "A.zarr", values, offsets), tmp_path / "a", long_range=long_range)
    other = segment(store(tmp_path / "B.zarr", np.stack(turned), steps), tmp_path / "b", long_range=long_range)
    np.testing.assert_array_equal(labels(one), labels(other))
    np.testing.assert_array_equal(read_table(one.tree, TREE)["score"], read_table(other.tree, TREE)["score"])


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("fragments", "seeded-watersheds", "did you mean seeded-watershed"),
        ("agglomeration", "multycut", "did you mean multicut"),
        ("long_range", "maybe", "valid: off, on"),
    ],
)
def test_an_unknown_method_names_the_close_ones(flag: str, value: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        options_from(None, **{flag: value})


def test_a_configuration_file_may_say_on_as_yaml_reads_it(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("long_range: on\nper_section: off\n")
    options = options_from(tmp_path / "run.yaml")
    assert (options.long_range, options.per_section) == ("on", "off")
