"""Runs whose region has several groups of blocks: the tree is that of one group, also after faults and in part."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from scipy import ndimage

from neuroseg.cli.main import exit_code
from neuroseg.errors import NeurosegError
from neuroseg.evaluation.artifacts import compared
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.runs.stages import StageSummary
from neuroseg.storage import table_memory
from neuroseg.storage.arrays import open_array
from neuroseg.storage.merges import has_merges, levels_of, read_nodes, read_tree
from neuroseg.storage.parts import map_lookup, part_path
from neuroseg.storage.table_memory import arrays_in_files
from neuroseg.storage.workspace import Workspace, level_table
from neuroseg.tables import Allocate

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, -4), (0, 3, 3))
SHAPE = (8, 12, 1100)
# Groups are at least 512 voxels wide: 960 voxels along x, so there are two, and one that contains both.
BLOCKS = "8,12,60"


@pytest.fixture(scope="module")
def affinities(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Smooth random affinities with long-range channels, on disk."""
    path = str(tmp_path_factory.mktemp("affinities") / "A.zarr")
    smooth = ndimage.gaussian_filter(np.random.default_rng(2).random((len(OFFSETS), *SHAPE)), (0, 1.5, 2, 2))
    values = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    attributes = {"offsets": OFFSETS, "voxel_size": [10, 10, 10]}
    zarr.create_array(path, shape=values.shape, dtype="u1", attributes=attributes)[:] = values
    return path


def segment(source: str, workspace: Path, **more: object) -> tuple[Workspace, list[StageSummary]]:
    given = {"affinities": source, "output": str(workspace), "executor": "serial", "threshold": 0.5}
    return pipeline.segment(Options.model_validate({**given, "blocks": BLOCKS, **more}))


@pytest.fixture(scope="module")
def grouped(affinities: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished segmentation in three groups."""
    return segment(affinities, tmp_path_factory.mktemp("grouped") / "w")[0]


@pytest.fixture
def made(grouped: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it to change."""
    shutil.copytree(grouped.path, tmp_path / "made")
    return Workspace(tmp_path / "made")


def require_equal(one: Workspace, other: Workspace) -> None:
    found = dict(compared(one, other))
    assert {name: difference for name, difference in found.items() if difference} == {}
    assert {"merges/tree", "merges/lookup", "segmentation.zarr/0"} <= found.keys()
    for name, column in read_nodes(one).items():
        np.testing.assert_array_equal(column, read_nodes(other)[name])


@pytest.mark.parametrize("executor", ["serial", "local"])
@pytest.mark.parametrize(
    ("scoring", "long_range"), [("mean", "off"), ("quantile:50", "on"), ("quantile:75:all", "on"), ("mean", "on")]
)
def test_groups_give_what_one_group_gives(
    affinities: str, tmp_path: Path, scoring: str, long_range: str, executor: str
) -> None:
    more = {"scoring": scoring, "long_range": long_range, "workers": 2}
    one, _ = segment(affinities, tmp_path / "one", **more, blocks="8,12,1100")
    other, summaries = segment(affinities, tmp_path / "other", **more, executor=executor)
    assert levels_of(one) == []
    assert levels_of(other) == [1]
    assert [(each.stage, each.blocks) for each in summaries][2:4] == [("agglomeration-1", 2), ("agglomeration", 1)]
    require_equal(one, other)
    # Some merges of the first groups, and some that had to wait.
    rows = len(read_tree(other)["a"])
    first = [part_path(other.artifact(level_table(1, "tree")), index) for index in (0, 1)]
    assert all(path.is_file() for path in first)
    assert rows > 10


@pytest.mark.parametrize("table", ["tree", "nodes", "open_edges", "open_nodes", "open_regions"])
def test_a_missing_part_is_computed_again(affinities: str, made: Workspace, grouped: Workspace, table: str) -> None:
    path = part_path(made.artifact(level_table(1, table)), 1)
    path.unlink()
    _, summaries = segment(affinities, made.path, threshold=0.6)
    assert [s.stage for s in summaries if s.blocks and "pyramid" not in s.stage] == ["lookup", "relabel"]
    assert path.is_file()
    segment(affinities, made.path)
    require_equal(made, grouped)


def test_a_damaged_part_is_computed_again(affinities: str, made: Workspace, grouped: Workspace) -> None:
    path = part_path(made.artifact(level_table(1, "tree")), 0)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
    segment(affinities, made.path, threshold=0.6)
    segment(affinities, made.path)
    require_equal(made, grouped)


def test_a_larger_region_extends_the_run_and_a_smaller_one_reads_only_its_own_groups(
    affinities: str, tmp_path: Path, grouped: Workspace
) -> None:
    small, _ = segment(affinities, tmp_path / "small", roi=":,:,0:500")
    made, _ = segment(affinities, tmp_path / "made", roi=":,:,0:500")
    require_equal(made, small)
    segment(affinities, made.path)
    require_equal_tables(made, grouped)
    segment(affinities, made.path, roi=":,:,0:500")
    require_equal_tables(made, small)
    segment(affinities, made.path, roi=":,:,900:1000")
    across, _ = segment(affinities, tmp_path / "across", roi=":,:,900:1000")
    require_equal_tables(made, across)


def require_equal_tables(one: Workspace, other: Workspace) -> None:
    for read in (read_tree, read_nodes):
        for name, column in read(one).items():
            np.testing.assert_array_equal(column, read(other)[name], err_msg=name)


def test_an_interrupted_agglomeration_leaves_no_tree_that_looks_complete(
    affinities: str, made: Workspace, grouped: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuroseg.agglomeration import stage

    before, calls = stage.merged_edges, []

    def interrupted(*given: object) -> object:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return before(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "merged_edges", interrupted)
    with pytest.raises(KeyboardInterrupt):
        segment_again(affinities, made)
    assert not made.tree.exists()
    assert not has_merges(made)
    _, summaries = segment(affinities, made.path)
    assert [(s.stage, s.blocks) for s in summaries if s.blocks][:2] == [("agglomeration-1", 1), ("agglomeration", 1)]
    require_equal(made, grouped)


def segment_again(affinities: str, made: Workspace) -> None:
    given = {"affinities": affinities, "output": str(made.path), "executor": "serial", "blocks": BLOCKS}
    pipeline.segment(Options.model_validate({**given, "threshold": 0.5}), restart="agglomeration")


@pytest.mark.parametrize("scoring", ["mean", "quantile:50:all"])
def test_tables_that_need_more_than_the_memory_are_in_files(
    affinities: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scoring: str
) -> None:
    expected, _ = segment(affinities, tmp_path / "in-memory", scoring=scoring)
    allocated: list[Path] = []

    def in_files(folder: Path) -> Allocate:
        allocated.append(folder)
        return arrays_in_files(folder, small_bytes=0)

    monkeypatch.setattr(table_memory, "free_memory_bytes", lambda: 0)
    monkeypatch.setattr(table_memory, "arrays_in_files", in_files)
    made, summaries = segment(affinities, tmp_path / "in-files", scoring=scoring, memory="600M")
    tasks = sum(summary.blocks for summary in summaries if summary.stage.startswith(("agglomeration", "lookup")))
    assert allocated == [made.path] * tasks
    require_equal(made, expected)
    assert not list(made.path.glob(".table-*"))


@pytest.mark.parametrize("small", ["merge", "drop"])
def test_small_segments_merge_as_in_one_group(affinities: str, tmp_path: Path, small: str) -> None:
    more = {"threshold": 0.3, "min_size": "300", "small": small}
    one, _ = segment(affinities, tmp_path / "one", **more, blocks="8,12,1100")
    other, _ = segment(affinities, tmp_path / "other", **more)
    require_equal(one, other)
    lookup = map_lookup(one.lookup)["segment"]
    plain, _ = segment(affinities, tmp_path / "one", threshold=0.3, min_size="0", blocks="8,12,1100")
    assert not np.array_equal(lookup, map_lookup(plain.lookup)["segment"])


def test_edits_hold_as_in_one_group(affinities: str, made: Workspace, tmp_path: Path) -> None:
    one, _ = segment(affinities, tmp_path / "one", blocks="8,12,1100")
    fragments, tree = open_array(one.fragments)[:], read_tree(one)
    first = int(np.flatnonzero(tree["score"] < 0.4)[-1])
    ends = [np.argwhere(fragments == tree[name][first])[0] for name in ("link_u", "link_v")]
    split = {"kind": "split", "points_voxels": [point.tolist() for point in ends]}
    join = {"kind": "join", "points_voxels": [[0, 0, 5], [0, 0, 1095]]}
    edits = tmp_path / "edits.jsonl"
    edits.write_text("\n".join(map(json.dumps, (split, join))) + "\n")
    before = read_labels(one)
    for workspace in (one, made):
        assert exit_code(["edits", str(workspace.path), "--apply", str(edits)]) == 0
    labels = read_labels(one)
    assert not np.array_equal(labels, before)
    np.testing.assert_array_equal(read_labels(made), labels)
    (z, y, x), (other_z, other_y, other_x) = ends
    assert labels[z, y, x] != labels[other_z, other_y, other_x]
    assert labels[0, 0, 5] == labels[0, 0, 1095]


def read_labels(workspace: Workspace) -> np.ndarray:
    return np.asarray(open_array(workspace.segmentation / "0")[:])


def test_kept_fragments_need_no_open_tables(affinities: str, made: Workspace, grouped: Workspace) -> None:
    segment(affinities, made.path, keep="fragments")
    folder = made.artifact("merges/level-1")
    assert sorted(path.name for path in folder.iterdir()) == ["nodes", "tree"]
    segment(affinities, made.path, threshold=0.6)
    segment(affinities, made.path)
    require_equal_tables(made, grouped)
    segment(affinities, made.path, keep="segmentation")
    assert sorted(path.name for path in folder.iterdir()) == ["nodes"]
    with pytest.raises(NeurosegError, match="was removed; nothing was changed"):
        segment(affinities, made.path, threshold=0.6)
