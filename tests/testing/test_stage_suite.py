"""Each conformance test for stages fails for a stage with a specific bug, and passes for a correct stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from funlib.geometry import Roi

from neuroseg.blocks import Block, Lattice
from neuroseg.geometry import Triple, slices
from neuroseg.stage import Finish, Process
from neuroseg.storage.arrays import create_array, ensure_array, open_array, write_region
from neuroseg.storage.workspace import Workspace
from neuroseg.testing.stages import StageTests
from neuroseg.testing.workspaces import BLOCK_SHAPE, SHAPE

REGION = Roi((1, 0, 0), (13, 33, 46))


@dataclass(frozen=True)
class Doubled:
    """A stage that doubles the values of an array. `wrong`: the bug that it has."""

    workspace: Workspace
    lattice: Lattice
    wrong: str = ""
    seen: list[Block] = field(default_factory=list, compare=False)

    name = "doubled"
    inputs = ("given.zarr",)
    outputs = ("doubled.zarr",)
    halo = (0, 0, 0)
    scope = ""

    @property
    def identity(self) -> Mapping[str, Any]:
        plain = list(self.lattice.block_shape)
        more = {"tuple": {"factors": (2, 2)}, "numpy": {"factor": np.uint8(2)}, "blocks in identity": {"blocks": plain}}
        return {"algorithm": 1, **more.get(self.wrong, {})}

    def prepare(self) -> None:
        make = create_array if self.wrong == "prepares anew" else self._ensure
        place, block = self.workspace.artifact("doubled.zarr"), self.lattice.block_shape
        make(place, shape=SHAPE, dtype=np.uint8, block=block, attributes={})

    def _ensure(self, path: Any, **described: Any) -> None:
        ensure_array(path, self.name, **described)

    @contextmanager
    def open(self) -> Iterator[Process]:
        given = open_array(self.workspace.artifact("given.zarr"))
        output = open_array(self.workspace.artifact("doubled.zarr"), writable=True)

        def process(block: Block) -> Finish:
            self.seen.append(block)
            values = 2 * given[slices(block.write_roi)] + self._mistake(given, output, block)

            def finish() -> None:
                is_late = self.wrong == "confuses blocks" and self.seen[-1] is not block
                write_region(output, block.write_roi, values + is_late)

            return finish

        yield process

    def _mistake(self, given: Any, output: Any, block: Block) -> int:
        """Return the wrong value that is added to a block."""
        folder = self.workspace.path
        mistakes: dict[str, Callable[[], object]] = {
            "counts": lambda: len(self.seen),
            "accumulates": lambda: output[slices(block.write_roi)].max() > 0,
            "names the block": lambda: block.index % 2,
            "reads another": lambda: open_array(folder / "other.zarr")[:].max(),
            "reads all": lambda: given[:].max() * 0,
            "writes all": lambda: output.set_basic_selection(slice(None), output[:]) or 0,
            "writes past its region": lambda: output.set_basic_selection(np.s_[0, :16, :32], 1) or 0,
            "writes a log": lambda: (folder / f"{block.index}.txt").touch() or 0,
            "leaves a partial file": lambda: (folder / "doubled.zarr" / ".0.partial").touch() or 0,
        }
        return int(mistakes.get(self.wrong, int)())  # type: ignore[call-overload]


class Suite(StageTests):
    wrong: ClassVar[str] = ""

    def stage(self, workspace: Workspace, block_shape: Triple) -> Doubled:
        for name in ("given.zarr", "other.zarr"):
            create_array(workspace.artifact(name), shape=SHAPE, dtype=np.uint8, block=BLOCK_SHAPE, attributes={})
            open_array(workspace.artifact(name), writable=True)[:] = np.random.default_rng(1).integers(1, 99, SHAPE)
        return Doubled(workspace, Lattice(SHAPE, block_shape, REGION), self.wrong)


class TestRight(Suite):
    pass


# What it does wrong, the test that finds it, and what that says.
CAUGHT = [
    ("names the block", "test_the_block_shape_does_not_show", "artifact='doubled.zarr', count="),
    ("counts", "test_the_order_of_blocks_does_not_show", "doubled.zarr/c/0/0/0"),
    ("accumulates", "test_blocks_may_run_twice", "doubled.zarr/c/0/0/0"),
    ("confuses blocks", "test_a_block_may_begin_before_another_is_complete", "doubled.zarr/c/0/0/0"),
    ("writes a log", "test_a_block_writes_only_its_write_roi", r"block 0 \(1:8,0:16,0:32\)\n(.|\n)*0\.txt"),
    ("writes all", "test_a_block_writes_only_its_write_roi", r"block 1 \(1:8,0:16,32:46\)\n(.|\n)*c/0/0/0"),
    ("writes past its region", "test_a_block_writes_only_its_write_roi", r"block 0 .*\n.*{'doubled.zarr': 512} == {}"),
    ("reads another", "test_it_reads_only_its_inputs", "other.zarr is missing"),
    ("reads all", "test_a_block_reads_only_its_read_roi", "Zstd decompression error"),
    ("prepares anew", "test_preparing_again_keeps_what_is_there", "doubled.zarr/c/0/0/0"),
    ("tuple", "test_the_identity_is_made_of_plain_values", r"'factors': \(2, 2\)"),
    ("numpy", "test_the_identity_is_made_of_plain_values", "cannot represent an object"),
    ("blocks in identity", "test_only_block_keys_of_the_identity_follow_the_block_shape", "{'blocks'} == set()"),
    ("leaves a partial file", "test_nothing_half_written_is_left", "0.partial"),
]


@pytest.mark.parametrize(("wrong", "test", "found"), CAUGHT)
def test_a_wrong_stage_is_caught(wrong: str, test: str, found: str, tmp_path: Path) -> None:
    suite = type("Wrong", (Suite,), {"wrong": wrong})()
    with pytest.raises(Exception, match=found):
        getattr(suite, test)(tmp_path)


def test_each_conformance_test_fails_for_some_stage() -> None:
    assert {test for _, test, _ in CAUGHT} == {name for name in dir(StageTests) if name.startswith("test_")}


def test_an_unknown_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="sizes is neither an array nor a known table"):
        Suite().differences(Workspace(tmp_path), Workspace(tmp_path), ["sizes"])
