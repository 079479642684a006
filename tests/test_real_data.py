"""End to end on real electron microscopy, with the bundled model."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from neuroseg.cli.main import exit_code
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.arrays import open_array
from neuroseg.storage.parts import read_parts, read_table
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import EDGES, TREE, Table, combined


@pytest.fixture(scope="module")
def predicted(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The affinities of a corner of FIB-25, by daisy workers."""
    folder = tmp_path_factory.mktemp("fib25")
    with h5py.File(data_folder / "fib25_ts2.h5") as file:
        raw = file["raw"][:80, :150, :130]
    array = zarr.create_array(
        str(folder / "raw.zarr"), shape=raw.shape, dtype="u1", attributes={"voxel_size": [10, 10, 10]}
    )
    array[:] = raw
    workspace, _ = pipeline.run(Options(volume=str(folder / "raw.zarr"), blocks="64", workers=2))
    return workspace


def edge_table(workspace: Workspace) -> Table:
    return combined(read_parts(workspace.edges, sorted(int(p.stem) for p in workspace.edges.iterdir()), EDGES), EDGES)


# In one process: each would predict anew.
@pytest.mark.long
@pytest.mark.xdist_group("predicted")
@pytest.mark.parametrize("blocks", ["96", "128", "100,128,80", "256", "48,100,33"])
def test_every_artifact_is_the_same_for_any_blocks(predicted: Workspace, blocks: str, tmp_path: Path) -> None:
    given = {
        "affinities": str(predicted.affinities), "output": str(tmp_path / "w"), "blocks": blocks, "executor": "serial",
        "scoring": pipeline.workspace_at(str(predicted.path))[1].scoring,
        "threshold": pipeline.workspace_at(str(predicted.path))[1].threshold,
    }  # fmt: skip
    other, _ = pipeline.segment(Options.model_validate(given))
    for path in ("fragments.zarr", "segmentation.zarr/0"):
        first, second = (np.asarray(open_array(w.path / path)[:]) for w in (predicted, other))
        assert len(np.unique(first)) > 20
        assert np.array_equal(first, second), path
    trees = (read_table(predicted.tree, TREE), read_table(other.tree, TREE))
    for one, two in ((edge_table(predicted), edge_table(other)), trees):
        for name, column in one.items():
            assert np.array_equal(column, two[name]), name


def test_a_boundary_map_alone_segments_well(
    data_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gala, workspace = data_folder / "gala_train.h5", str(tmp_path / "w")
    assert exit_code(["segment", "--boundaries", f"{gala}:boundary_prob", "-o", workspace, "--executor", "serial"]) == 0
    capfd.readouterr()
    assert exit_code(["evaluate", workspace, "--truth", f"{gala}:neuron_ids", "--sweep", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)["sweep"]
    assert min(row["voi_sum"] for row in rows) < 0.50


@pytest.mark.long
def test_the_bundled_model_segments_sections_it_was_not_trained_on(
    data_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    volume, truth = str(tmp_path / "fib25.zarr"), f"{data_folder / 'fib25_ts2.h5'}:neuron_ids_cc"
    assert exit_code(["import", f"{data_folder / 'fib25_ts2.h5'}:raw", "-o", volume]) == 0
    assert exit_code(["run", volume, "--blocks", "64,128,256", "--roi", "120:160,:,:"]) == 0
    capfd.readouterr()
    assert exit_code(["evaluate", str(tmp_path / "fib25.neuroseg"), "--truth", truth, "--json"]) == 0
    scores = json.loads(capfd.readouterr().out)
    assert scores["roi"] == "120:160,0:250,0:250"
    assert scores["voi_sum"] < 1.3
