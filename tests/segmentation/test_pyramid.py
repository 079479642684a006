"""The levels of a pyramid are the same for any blocks, and each of their files belongs to one block."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from funlib.geometry import Roi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuroseg.blocks import Lattice
from neuroseg.geometry import Nanometres, Triple, slices, triple, whole
from neuroseg.segmentation import pyramid
from neuroseg.segmentation.pyramid import level_factors, passes_of
from neuroseg.segmentation.relabel import downsampled
from neuroseg.segmentation.stage import PyramidStage, RelabelStage, pyramid_stages
from neuroseg.stage import Stage
from neuroseg.storage.arrays import create_array, open_array
from neuroseg.storage.workspace import Workspace
from neuroseg.testing.stages import StageTests
from neuroseg.testing.workspaces import blocks_of, run_directly

CUBE: Nanometres = (10.0, 10.0, 10.0)
SHAPE: Triple = (6, 21, 300)
REGION = Roi((1, 3, 0), (5, 17, 299))


def labels_of(shape: Triple, region: Roi) -> NDArray[np.uint64]:
    """Return labels in boxes of a few voxels, so that windows hold several and ties occur. 0 outside the region."""
    rng = np.random.default_rng(3)
    small = rng.integers(1, 5, [-(-size // 3) for size in shape])
    labels = small.repeat(3, 0).repeat(3, 1).repeat(3, 2)[: shape[0], : shape[1], : shape[2]]
    mixed = np.where(rng.random(shape) < 0.3, rng.integers(1, 5, shape), labels)
    out = np.zeros(shape, np.uint64)
    out[slices(region)] = mixed[slices(region)]
    return out


def written_stages(
    workspace: Workspace, labels: NDArray[np.uint64], block_shape: Triple, region: Roi, voxel: Nanometres = CUBE
) -> list[PyramidStage]:
    """Write the full resolution, and return the stages of the other levels."""
    shape = triple(labels.shape)
    create_array(workspace.segmentation / "0", shape=shape, dtype=np.uint64, block=block_shape, attributes={})
    open_array(workspace.segmentation / "0", writable=True)[:] = labels
    lattice = Lattice(shape, block_shape, region)
    relabel = RelabelStage(workspace, workspace.segmentation.name, lattice, "lookup", voxel, (0.0, 0.0, 0.0))
    return pyramid_stages(relabel, "relabel")


def test_levels_down_to_small_ones_are_one_pass() -> None:
    (only,) = passes_of((250, 250, 250), CUBE, (64, 64, 64))
    assert [(level.number, level.factors, level.shard) for level in only.levels] == [(1, (2, 2, 2), (64, 64, 64))]
    assert (only.source, only.block_shape) == (0, (128, 128, 128))


def test_a_pass_over_thick_sections() -> None:
    (only,) = passes_of((100, 1000, 1000), (40.0, 10.0, 10.0), (32, 128, 128))
    assert [(level.factors, level.shard) for level in only.levels] == [
        ((1, 2, 2), (32, 128, 128)),
        ((1, 4, 4), (32, 64, 64)),
        ((2, 8, 8), (16, 32, 32)),
    ]
    assert only.block_shape == (32, 256, 256)


def test_the_coarsest_files_are_not_too_small() -> None:
    """1/32 of a block of 256 has 8 voxels, too few for a file. The blocks are larger then."""
    (only,) = passes_of((4000, 4000, 4000), CUBE, (128, 128, 128))
    assert [level.shard[0] for level in only.levels] == [128, 128, 64, 32, 16]
    assert only.block_shape == (512, 512, 512)


def test_a_very_large_volume_has_a_second_pass() -> None:
    first, second = passes_of((100_000, 100_000, 100_000), CUBE, (256, 256, 256))
    assert [level.number for level in first.levels] == [1, 2, 3, 4, 5, 6, 7]
    assert [level.number for level in second.levels] == [8, 9, 10]
    assert (second.source, second.factors) == (7, (128, 128, 128))
    assert first.block_shape == (2048, 2048, 2048)
    assert second.block_shape == (512 * 128,) * 3


edges = st.integers(1, 90)


@settings(max_examples=300)
@given(
    st.tuples(st.integers(1, 40_000), st.integers(1, 40_000), st.integers(129, 40_000)),
    st.tuples(*[st.sampled_from([4.0, 10.0, 30.0])] * 3),
    st.tuples(edges, edges, st.integers(1, 300)),
)
def test_each_file_of_each_level_belongs_to_one_block(shape: Triple, voxel: Nanometres, block: Triple) -> None:
    passes = passes_of(shape, voxel, block)
    levels = [level for each in passes for level in each.levels]
    totals = [(1, 1, 1), *(level.factors for level in levels)]
    steps = [triple([b // a for a, b in zip(one, other, strict=True)]) for one, other in pairwise(totals)]
    assert steps == level_factors(shape, voxel)
    assert [level.number for level in levels] == list(range(1, len(levels) + 1))
    assert [each.source for each in passes] == [each.levels[0].number - 1 for each in passes]
    for each in passes:
        for level in each.levels:
            parts = zip(each.block_shape, level.factors, level.shard, block, strict=True)
            for size, factor, shard, width in parts:
                assert size % (factor * shard) == 0
                assert shard <= max(width, 16), "a worker holds one shard"


@pytest.mark.parametrize("block", [(16, 16, 32), (1, 50, 300), (5, 7, 11), (4, 4, 4), (3, 125, 33)])
@pytest.mark.parametrize("region", [whole(SHAPE), REGION])
def test_levels_equal_those_of_the_whole_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: Triple, region: Roi
) -> None:
    monkeypatch.setattr(pyramid, "_SMALL_VOXELS", 9)
    wanted = [labels_of(SHAPE, region)]
    for step in level_factors(SHAPE, CUBE):
        wanted.append(downsampled(wanted[-1], step))
    workspace = Workspace(tmp_path)
    for stage in written_stages(workspace, wanted[0], block, region):
        run_directly(stage, blocks_of(stage)[::-1])
    assert len(wanted) == 7
    for number, expected in enumerate(wanted):
        np.testing.assert_array_equal(open_array(workspace.segmentation / str(number))[:], expected, str(number))


def test_a_window_at_the_end_of_the_volume_and_one_at_the_face_of_the_region(tmp_path: Path) -> None:
    labels = np.zeros((1, 2, 131), np.uint64)
    labels[0, :, 4:] = 7  # the region begins at 4, within the window of level 1 that begins at 4
    labels[0, :, 130] = 5
    workspace = Workspace(tmp_path)
    (stage,) = written_stages(workspace, labels, (1, 2, 32), Roi((0, 0, 4), (1, 2, 127)))
    run_directly(stage)
    level = open_array(workspace.segmentation / "1")[:]
    assert level.shape == (1, 1, 66)
    assert level[0, 0, [0, 1, 2, 64, 65]].tolist() == [0, 0, 7, 7, 5]


class TestPyramid(StageTests):
    """Two levels of a long volume."""

    block_shapes: ClassVar[list[Triple]] = [(4, 8, 32), (6, 21, 300), (3, 5, 31)]

    def stage(self, workspace: Workspace, block_shape: Triple) -> Stage:
        (stage,) = written_stages(workspace, labels_of(SHAPE, REGION), block_shape, REGION)
        return stage
