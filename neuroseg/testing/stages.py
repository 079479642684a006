"""Conformance tests for stages: blocks, their order and retries must not change the artifacts. Requires pytest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from neuroseg.evaluation.artifacts import Difference, array_difference, compared
from neuroseg.geometry import Triple, describe
from neuroseg.stage import Stage
from neuroseg.storage.arrays import is_array
from neuroseg.storage.workspace import Workspace
from neuroseg.testing.footprint import Footprint, files_outside, remove_others
from neuroseg.testing.workspaces import (
    blocks_of,
    damaged,
    differing,
    run_directly,
    run_overlapping,
    stored_files,
)


@dataclass(frozen=True)
class Made:
    """A stage and its workspace."""

    workspace: Workspace
    stage: Stage

    @property
    def files(self) -> dict[str, bytes]:
        """The content of every file that the stage stored."""
        return stored_files(self.workspace, self.stage.outputs)


class StageTests:
    """Inherit this class and override `stage`. Then pytest runs these tests with your stage.

        class TestMine(StageTests):
            def stage(self, workspace, block_shape):
                make_affinities(workspace.path / "affinities.zarr")
                return MyStage(workspace, Lattice(SHAPE, block_shape, whole(SHAPE)))

    Set these class attributes if you need other values:

    - `block_shapes`: the block shapes to compare. The first one is the reference.
    - `follow_blocks`: outputs that depend on the blocks by design. Override `complete` to compute comparable artifacts
      from them.
    - `block_keys`: keys of the identity that contain the block shape, or a hash of it.
    """

    block_shapes: ClassVar[Sequence[Triple]] = ((8, 16, 32), (14, 33, 46), (5, 40, 13))
    follow_blocks: ClassVar[Sequence[str]] = ()
    block_keys: ClassVar[Sequence[str]] = ()

    def stage(self, workspace: Workspace, block_shape: Triple) -> Stage:
        """Write the inputs of the stage to an empty workspace, and return the stage for blocks of `block_shape`."""
        raise NotImplementedError(f"{type(self).__name__} must override `stage(self, workspace, block_shape)`")

    def complete(self, workspace: Workspace, stage: Stage) -> None:
        """Compute artifacts that do not depend on the blocks from the outputs `follow_blocks`. Default: nothing."""

    def differences(self, one: Workspace, other: Workspace, outputs: Sequence[str]) -> list[Difference]:
        """Return the differences of two workspaces. Override this if your stage writes its own tables."""
        found = dict(compared(one, other))
        for name in outputs:
            if name.removesuffix(".parquet").removesuffix(".npy") in found:
                continue
            assert is_array(one.artifact(name)), f"{name} is neither an array nor a known table: override `differences`"
            found[name] = array_difference(name, one.artifact(name), other.artifact(name))
        return [difference for difference in found.values() if difference]

    def test_the_block_shape_does_not_show(self, tmp_path: Path) -> None:
        """Every artifact has the same values for every block shape."""
        whole, *others = [self._run(tmp_path / str(n), shape) for n, shape in enumerate(self.block_shapes)]
        for made in (whole, *others):
            self.complete(made.workspace, made.stage)
        outputs = [name for name in whole.stage.outputs if name not in self.follow_blocks]
        for other in others:
            assert self.differences(whole.workspace, other.workspace, outputs) == [], other.stage.lattice.block_shape

    def test_the_order_of_blocks_does_not_show(self, tmp_path: Path) -> None:
        """Blocks in reverse order give the same files."""
        backwards = self._made(tmp_path / "backwards", self.block_shapes[0])
        run_directly(backwards.stage, blocks_of(backwards.stage)[::-1])
        assert differing(backwards.files, self._run(tmp_path / "forwards").files) == []

    def test_blocks_may_run_twice(self, tmp_path: Path) -> None:
        """Running the blocks twice gives the same files."""
        made = self._run(tmp_path)
        once = made.files
        run_directly(made.stage)
        assert differing(made.files, once) == []

    def test_a_block_may_begin_before_another_is_complete(self, tmp_path: Path) -> None:
        """If `process` returns a function that completes the block, the next block may begin before it is called."""
        overlapping = self._made(tmp_path / "overlapping", self.block_shapes[0])
        run_overlapping(overlapping.stage)
        assert differing(overlapping.files, self._run(tmp_path / "single").files) == []

    def test_a_block_writes_only_its_write_roi(self, tmp_path: Path) -> None:
        """A block changes only its own files, and only voxels in its write_roi."""
        made = self._made(tmp_path, self.block_shapes[0])
        outputs = made.stage.outputs
        made.stage.prepare()
        for block in blocks_of(made.stage):
            before = Footprint.of(tmp_path, made.workspace, outputs)
            run_directly(made.stage, [block])
            after = Footprint.of(tmp_path, made.workspace, outputs)
            where = f"block {block.index} ({describe(block.write_roi)})"
            assert after.foreign_files(before, made.workspace, outputs, block) == [], where
            assert after.foreign_voxels(before, block) == {}, where

    def test_it_reads_only_its_inputs(self, tmp_path: Path) -> None:
        """Other files of the workspace may be missing."""
        bare = self._made(tmp_path / "bare", self.block_shapes[0])
        remove_others(bare.workspace, (*bare.stage.inputs, *bare.stage.outputs))
        run_directly(bare.stage)
        assert differing(bare.files, self._run(tmp_path / "full").files) == []

    def test_a_block_reads_only_its_read_roi(self, tmp_path: Path) -> None:
        """Shards of input arrays outside the read_roi may be damaged."""
        made = self._run(tmp_path)
        whole, blocks = made.files, blocks_of(made.stage)
        ends = [(block, files_outside(made.workspace, made.stage.inputs, block)) for block in (blocks[0], blocks[-1])]
        if not any(files for _, files in ends):
            pytest.skip("the first and the last block read all shards of all input arrays")
        for block, files in ends:
            with damaged(files):
                run_directly(made.stage, [block])
            assert differing(made.files, whole) == []

    def test_preparing_again_keeps_what_is_there(self, tmp_path: Path) -> None:
        """`prepare` changes no file of a finished stage."""
        made = self._run(tmp_path)
        before = made.files
        made.stage.prepare()
        assert differing(made.files, before) == []

    def test_the_identity_is_made_of_plain_values(self, tmp_path: Path) -> None:
        """YAML must preserve the identity. Otherwise, every resumed run would look changed."""
        identity = dict(self._made(tmp_path, self.block_shapes[0]).stage.identity)
        assert yaml.safe_load(yaml.safe_dump(identity)) == identity

    def test_only_block_keys_of_the_identity_follow_the_block_shape(self, tmp_path: Path) -> None:
        """Other keys have the same values for every block shape."""
        stages = [self._made(tmp_path / str(n), shape).stage for n, shape in enumerate(self.block_shapes)]
        first, *others = [dict(stage.identity) for stage in stages]
        keys = {key for identity in (first, *others) for key in identity}
        assert {key for key in keys if any(o.get(key) != first.get(key) for o in others)} == set(self.block_keys)

    def test_nothing_half_written_is_left(self, tmp_path: Path) -> None:
        """No temporary file (.partial) is left."""
        self._run(tmp_path)
        assert [path for path in tmp_path.rglob("*.partial") if path.is_file()] == []

    def _made(self, folder: Path, block_shape: Triple) -> Made:
        """Return the stage in a workspace with its inputs."""
        workspace = Workspace(folder / "volume.neuroseg")
        workspace.path.mkdir(parents=True)
        return Made(workspace, self.stage(workspace, block_shape))

    def _run(self, folder: Path, block_shape: Triple | None = None) -> Made:
        """Run the stage and return it. The default is the first block shape."""
        made = self._made(folder, block_shape or self.block_shapes[0])
        run_directly(made.stage)
        return made
