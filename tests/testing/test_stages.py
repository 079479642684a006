"""The stages of neuroseg pass the conformance tests, on a region with sliver blocks, an empty block and a tube."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from funlib.geometry import Roi

from neuroseg.blocks import Lattice
from neuroseg.edges.stage import EdgesStage
from neuroseg.fragments.settings import BasinSettings
from neuroseg.fragments.stage import FragmentsStage
from neuroseg.geometry import Triple, slices
from neuroseg.segmentation.stage import RelabelStage
from neuroseg.stage import Stage
from neuroseg.storage.arrays import open_array
from neuroseg.storage.parts import write_lookup
from neuroseg.storage.workspace import Workspace
from neuroseg.testing.stages import StageTests
from neuroseg.testing.workspaces import (
    BLOCK_SHAPE,
    MASK_BOUNDARY,
    SHAPE,
    make_affinities,
    run_directly,
    stored_files,
)
from neuroseg.volumes.affinity_source import AffinitySource, open_affinities

# Its faces cut blocks, and the last block along y is one voxel thick.
REGION = Roi((1, 2, 0), (13, 31, 45))


def fragments_stage(workspace: Workspace, source: AffinitySource, block_shape: Triple) -> FragmentsStage:
    basins = BasinSettings(source.voxel_size_nm, reach=2, mask_boundary=MASK_BOUNDARY)
    lattice = Lattice(SHAPE, block_shape, REGION)
    return FragmentsStage(workspace, source, "affinities", basins, lattice, None)


def edges_stage(workspace: Workspace, source: AffinitySource, lattice: Lattice) -> EdgesStage:
    return EdgesStage(workspace, source, lattice, "fragments", with_bins=True, provisional=True)


class TestFragments(StageTests):
    """Provisional names depend on the blocks. Final fragments, which the stage `edges` writes, do not."""

    follow_blocks = ("provisional.zarr", "entries")
    block_keys = ("block_voxels",)

    def stage(self, workspace: Workspace, block_shape: Triple) -> Stage:
        return fragments_stage(workspace, make_affinities(workspace.path / "affinities.zarr"), block_shape)

    def complete(self, workspace: Workspace, stage: Stage) -> None:
        source = open_affinities(str(workspace.affinities), None, None)
        run_directly(edges_stage(workspace, source, stage.lattice))


class TestEdges(StageTests):
    def stage(self, workspace: Workspace, block_shape: Triple) -> Stage:
        source = make_affinities(workspace.path / "affinities.zarr")
        fragments = fragments_stage(workspace, source, block_shape)
        run_directly(fragments)
        return edges_stage(workspace, source, fragments.lattice)


class TestRelabel(StageTests):
    """Test with a lookup that merges three fragments each."""

    def stage(self, workspace: Workspace, block_shape: Triple) -> Stage:
        source = make_affinities(workspace.path / "affinities.zarr")
        fragments = fragments_stage(workspace, source, block_shape)
        run_directly(fragments)
        run_directly(edges_stage(workspace, source, fragments.lattice))
        names = np.unique(open_array(workspace.fragments)[:])
        names = names[names > 0]
        write_lookup(workspace.lookup, {"fragment": names, "segment": np.arange(len(names)) // 3 + 1})
        return RelabelStage(
            workspace, workspace.segmentation.name, fragments.lattice, "lookup", source.voxel_size_nm, source.offset_nm
        )


@pytest.fixture
def made(tmp_path: Path) -> tuple[Workspace, EdgesStage]:
    workspace = Workspace(tmp_path / "volume.neuroseg")
    workspace.path.mkdir()
    source = make_affinities(workspace.path / "affinities.zarr")
    stage = fragments_stage(workspace, source, BLOCK_SHAPE)
    run_directly(stage)
    edges = edges_stage(workspace, source, stage.lattice)
    run_directly(edges)
    return workspace, edges


def test_the_volume_has_an_empty_block_a_sliver_and_a_shared_fragment(made: tuple[Workspace, EdgesStage]) -> None:
    workspace, stage = made
    blocks = [block.write_roi for block in stage.lattice.blocks()]
    fragments = open_array(workspace.fragments)[:]
    touched = [{int(name) for name in np.unique(fragments[slices(roi)])} - {0} for roi in blocks]
    assert touched[0] == set(), "an empty block"
    assert "provisional.zarr/c/0/0/0" not in stored_files(workspace, ["provisional.zarr"])
    assert min(min(roi.shape) for roi in blocks) == 1, "a sliver"
    assert any(first & second for first, second in itertools.pairwise(touched)), "a fragment of two blocks"
    assert len(set().union(*touched)) > 20
