"""A probe computes the same files as the run, for the block that it measures."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import zarr
from funlib.geometry import Roi
from scipy import ndimage

from neuroseg.errors import NeurosegError
from neuroseg.execution.block import ledger_of, own_host
from neuroseg.geometry import describe
from neuroseg.runs import pipeline
from neuroseg.runs.measuring import Measured, opened, seconds_since_start, work_of
from neuroseg.runs.options import Options
from neuroseg.runs.plan import Plan
from neuroseg.runs.probe_processes import probed
from neuroseg.runs.probed_prediction import mirror, tiles_around
from neuroseg.runs.probing import edges_in, probe_block
from neuroseg.runs.resolve import plan_of_run
from neuroseg.storage.arrays import create_array, open_array
from neuroseg.storage.workspace import Workspace
from tests.conftest import make_volume

SHAPE = (48, 64, 80)
MIDDLE = 5  # of 2 x 3 x 4 blocks of 24 voxels, cell (0, 1, 1)


def make_affinities(path: Path) -> str:
    """Smooth random affinities, anisotropic, with an offset."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(5).random((3, *SHAPE)), (0, 1.5, 2, 2))
    values = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    attributes = {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], "voxel_size": [20, 10, 10], "offset": [0, 40, 0]}
    zarr.create_array(str(path), shape=values.shape, dtype="u1", attributes=attributes)[:] = values
    return str(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Plan]:
    """A segmentation in blocks of 24 voxels, and its plan."""
    folder = tmp_path_factory.mktemp("finished")
    source = make_affinities(folder / "A.zarr")
    options = Options(affinities=source, output=str(folder / "w"), blocks="24", executor="serial", threshold=0.4)
    workspace, _ = pipeline.segment(options)
    return pipeline.workspace_at(str(workspace.path))


def stored(workspace: Workspace, plan: Plan, stage: str, block: int) -> dict[str, tuple[int, int]]:
    """Files and bytes of a block in a finished workspace."""
    found = plan.stage(workspace, stage)
    ((_, counts),) = ledger_of(workspace, found).written([found.lattice.block(block, found.halo)])
    return {name: tuple(each) for name, each in zip(found.outputs, counts, strict=True) if each.files}


@pytest.mark.parametrize("block", [0, MIDDLE])
def test_a_probe_writes_the_same_bytes_as_the_run(finished: tuple[Workspace, Plan], tmp_path: Path, block: int) -> None:
    workspace, plan = finished
    probe = probe_block(plan, block, tmp_path / "p")
    rows = {row.stage: row for row in probe.stages}
    assert rows["fragments"].stored == stored(workspace, plan, "fragments", block)
    # Nodes and edges refer to fragments by the voxel of their root, which may lie beyond the region of the probe.
    assert rows["edges"].stored["fragments.zarr"] == pytest.approx(
        stored(workspace, plan, "edges", block)["fragments.zarr"], rel=0.02
    )
    assert probe.voxels == plan.lattice.block(block).voxels == rows["fragments"].size


def test_a_probe_measures_every_stage_once(finished: tuple[Workspace, Plan], tmp_path: Path) -> None:
    workspace, plan = finished
    probe = probe_block(plan, 0, tmp_path / "p")
    measured = [row.stage for row in probe.stages]
    assert measured == [stage.name for stage in plan.stages(workspace)]
    assert all(row.seconds > 0 and row.start_s >= 0 and row.work > 0 and row.base_mib > 0 for row in probe.stages)


def test_the_work_of_a_block_is_what_it_reads(finished: tuple[Workspace, Plan], tmp_path: Path) -> None:
    workspace, plan = finished
    stage = plan.stage(workspace, "fragments")
    block = stage.lattice.block(0, stage.halo)
    rows = {row.stage: row for row in probe_block(plan, 0, tmp_path / "p").stages}
    assert rows["fragments"].work == block.read_roi.size > block.voxels
    work = work_of(stage)
    assert rows["fragments"].work == np.prod([work(axis, 0, 24) for axis in range(3)])


def test_each_edge_is_counted_in_one_block(finished: tuple[Workspace, Plan]) -> None:
    workspace, plan = finished
    counts = [edges_in(plan, workspace, block) for block in plan.lattice.blocks()]
    assert sum(own for own, _ in counts) == counts[0][1] > 100
    assert max(own for own, _ in counts) < counts[0][1] / 4


def test_prediction_is_measured_on_tiles(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    options = Options(volume=raw_volume, model=tiny_model, output=str(tmp_path / "w"), blocks="32", executor="serial")
    _, plan, _ = plan_of_run(options)
    row = probe_block(plan, 0, tmp_path / "p").stages[0]
    assert row.stage == "affinities"
    assert row.work == row.size == 32**3  # a fast network predicts the whole block
    workspace, _ = pipeline.predict(options)
    assert row.stored == stored(workspace, plan, "affinities", 0)


def test_a_cpu_that_a_run_refuses_can_measure(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    options = Options(volume=raw_volume, model=tiny_model, output=str(tmp_path / "w"), blocks="32", executor="serial")
    _, plan, _ = plan_of_run(options)
    other = plan.model_copy(update={"device_identity": {**plan.device_identity, "cpu_capability": "OTHER"}})
    probe = probe_block(other, 0, tmp_path / "p")
    assert probe.stages[0].seconds > 0
    assert (probe.host, probe.device) == (own_host(), "cpu")
    with (
        pytest.raises(NeurosegError, match="would give different affinities"),
        opened(other.affinities_stage(Workspace(tmp_path / "q")), Workspace(tmp_path / "q")),
    ):
        pass


def test_the_start_of_a_worker_begins_with_its_process() -> None:
    expected = time.time() - psutil.Process().create_time()
    assert seconds_since_start() == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize("normalise", ["none", "sections"])
def test_sections_are_counted_only_in_the_block(tiny_model: str, tmp_path: Path, normalise: str) -> None:
    volume = make_volume(tmp_path / "V.zarr", (40, 50, 45))
    options = Options(
        volume=volume, model=tiny_model, output=str(tmp_path / "w"), blocks="32", executor="serial", normalise=normalise
    )
    rows = probe_block(plan_of_run(options)[1], 0, tmp_path / "p").stages
    assert [row.work for row in rows if row.stage == "sections"] == ([32**3] if normalise == "sections" else [])


def testtiles_around_a_voxel_stay_inside_the_block() -> None:
    bounds = Roi((0, 0, 64), (32, 32, 64))
    assert describe(tiles_around((5, 5, 70), (16, 16, 16), 1, bounds)) == "0:16,0:16,64:80"
    assert describe(tiles_around((31, 31, 127), (16, 16, 16), 2, bounds)) == "0:32,0:32,96:128"
    assert describe(tiles_around((5, 5, 100), (16, 16, 16), 9, bounds)) == "0:32,0:32,64:128"
    # tiles that a face cuts
    assert describe(tiles_around((38, 5, 64), (16, 16, 16), 1, Roi((0, 0, 64), (40, 32, 64)))) == "32:40,0:16,64:80"


def test_the_rest_of_a_region_is_a_mirror_image(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    create_array(workspace.affinities, shape=(1, 4, 4, 8), dtype=np.uint8, block=(4, 4, 8), attributes={})
    open_array(workspace.affinities, writable=True)[0, :, :, 2:4] = np.broadcast_to([1, 2], (4, 4, 2))
    mirror(workspace, Roi((0, 0, 2), (4, 4, 2)), Roi((0, 0, 1), (4, 4, 6)))
    assert open_array(workspace.affinities)[0, 3, 3].tolist() == [0, 1, 1, 2, 2, 1, 1, 0]


def test_each_probe_runs_in_its_own_process(finished: tuple[Workspace, Plan], tmp_path: Path) -> None:
    _, plan = finished
    seen = []
    found = probed(plan, [0, MIDDLE], tmp_path, 2, lambda done, failed: seen.append(done))
    assert [probe.block for probe in found.probes] == [0, MIDDLE]
    assert seen == [1, 2]
    assert found.worker_s > 0
    assert found.probes[0].stages[0].stored == probe_block(plan, 0, tmp_path / "here").stages[0].stored


def test_a_probe_that_fails_names_its_block(finished: tuple[Workspace, Plan], tmp_path: Path) -> None:
    _, plan = finished
    broken = plan.model_copy(update={"path": str(tmp_path / "missing.zarr")})
    with pytest.raises(NeurosegError, match=r"probe of block 3 failed.*\n(.*\n)*.*missing\.zarr"):
        probed(broken, [3], tmp_path, 1, lambda done, failed: None)


def test_measurements_can_be_stored() -> None:
    row = Measured(stage="x", start_s=0.0, seconds=1.0, work=2, size=3, stored={"a": (1, 9)}, base_mib=4, more_mib=5)
    assert Measured.model_validate(row.model_dump(mode="json")) == row
