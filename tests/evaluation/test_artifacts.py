"""Comparison of workspaces with only some of the stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neuroseg.evaluation.artifacts import compared
from neuroseg.storage.arrays import create_array, open_array
from neuroseg.storage.parts import write_lookup
from neuroseg.storage.workspace import Workspace


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Workspace, Workspace]:
    made = []
    for name in "ab":
        workspace = Workspace(tmp_path / name)
        create_array(workspace.fragments, shape=(4, 4, 4), dtype=np.uint64, block=(2, 4, 4), attributes={})
        open_array(workspace.fragments, writable=True)[:] = 7
        made.append(workspace)
    return made[0], made[1]


def test_artifacts_of_neither_workspace_are_skipped(twins: tuple[Workspace, Workspace]) -> None:
    found = dict(compared(*twins))
    assert not any(found.values())
    assert "fragments.zarr" in found
    assert not {"affinities.zarr", "merges/tree", "merges/lookup", "segmentation.zarr/0"} & found.keys()


def test_an_artifact_of_one_workspace_is_a_difference(twins: tuple[Workspace, Workspace]) -> None:
    one, other = twins
    lookup = {name: np.array([7], np.uint64) for name in ("fragment", "segment")}
    write_lookup(other.lookup, lookup)
    create_array(one.segmentation / "0", shape=(4, 4, 4), dtype=np.uint64, block=(2, 4, 4), attributes={})
    differing = {name for name, difference in compared(one, other) if difference}
    assert differing == {"merges/lookup", "segmentation.zarr/0"}
    write_lookup(one.lookup, lookup)
    assert {name for name, difference in compared(one, other) if difference} == {"segmentation.zarr/0"}
