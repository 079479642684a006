"""Measurements at one block -> the whole run, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuroseg.execution.cluster.site import STAGES, Resources, Site
from neuroseg.runs.block_sums import read_length, summed
from neuroseg.runs.estimate import Estimate, Setting, StageEstimate, estimated
from neuroseg.runs.measuring import Measured, Probe
from neuroseg.runs.options import Options
from neuroseg.runs.plan import Plan
from neuroseg.runs.plan_advice import advice_for
from neuroseg.runs.probe_processes import Probed
from neuroseg.runs.resolve import plan_of_run
from neuroseg.storage.workspace import Workspace
from tests.runs.test_probing import make_affinities

# 48 x 64 x 80 voxels in blocks of 24: 2 x 3 x 4. No halo in z, because fragments are not computed per section.
BLOCKS, VOXELS = 24, 48 * 64 * 80
OF_TABLES = ("agglomeration", "lookup")


@pytest.fixture
def planned(tmp_path: Path) -> tuple[Workspace, Plan]:
    source = make_affinities(tmp_path / "A.zarr")
    options = Options(affinities=source, output=str(tmp_path / "w"), blocks="24", executor="serial")
    workspace, plan, _ = plan_of_run(options)
    return workspace, plan


def probed_once(workspace: Workspace, plan: Plan, **more: float) -> dict[str, Probed]:
    """One block of 1000 voxels with 10 edges. Each stage takes 1 s for them, and writes 1000 bytes, or 10 for edges."""
    rows = []
    for stage in plan.stages(workspace):
        amount = 10 if stage.name in OF_TABLES else 1000
        row = Measured(
            stage=stage.name, start_s=0.0, seconds=1.0, work=amount, size=amount, base_mib=100, more_mib=0,
            stored={stage.outputs[0]: (1, amount)},
        )  # fmt: skip
        rows.append(row.model_copy(update=more))
    return probed_as(probe_of(rows), 2.0)


def probe_of(rows: Sequence[Measured], host: str = "lab1", device: str = "cpu") -> Probe:
    return Probe(block=0, voxels=1000, edges=10, stages=tuple(rows), host=host, device=device, start_s=1.0)


def probed_as(probe: Probe, worker_s: float) -> dict[str, Probed]:
    """The same measurements for all stages."""
    return dict.fromkeys(STAGES, Probed((probe,), worker_s))


def rows_of(estimate: Estimate) -> dict[str, StageEstimate]:
    return {row.stage: row for row in estimate.stages}


def test_time_grows_with_what_blocks_read(planned: tuple[Workspace, Plan]) -> None:
    workspace, plan = planned
    found = estimated(plan, workspace, probed_once(workspace, plan), Setting(head_s=3.0))
    rows, fragments = rows_of(found), plan.stage(workspace, "fragments")
    read = summed(fragments.lattice, read_length(fragments.lattice, fragments.halo))
    assert read > VOXELS
    assert rows["fragments"].seconds == pytest.approx(read / 1000)
    assert rows["relabel"].seconds == pytest.approx(VOXELS / 1000)
    assert rows["relabel"].core_hours == pytest.approx(VOXELS / 1000 / 3600)
    assert found.seconds == pytest.approx(2.0 + 3.0 + sum(row.seconds for row in found.stages))
    assert found.core_hours == pytest.approx(sum(row.core_hours for row in found.stages))


def test_tables_grow_with_edges(planned: tuple[Workspace, Plan]) -> None:
    workspace, plan = planned
    row = rows_of(estimated(plan, workspace, probed_once(workspace, plan), Setting()))["agglomeration"]
    edges = VOXELS / 100  # 10 edges for 1000 voxels
    assert row.seconds == pytest.approx(edges / 10, rel=1e-3)
    assert sum(row.disk_bytes.values()) == pytest.approx(edges, rel=1e-3)
    assert (row.blocks, row.workers, row.files) == (1, 1, 1)


def test_disk_grows_with_what_blocks_write(planned: tuple[Workspace, Plan]) -> None:
    workspace, plan = planned
    found = estimated(plan, workspace, probed_once(workspace, plan), Setting())
    rows = rows_of(found)
    assert rows["fragments"].disk_bytes == {"provisional.zarr": VOXELS}
    assert rows["fragments"].files == BLOCKS
    later = sum(sum(row.disk_bytes.values()) for row in found.stages[3:])
    assert later > VOXELS, "more than what is removed before"
    assert found.peak_disk_bytes == sum(found.disk_by_artifact.values()) - VOXELS
    files = sum(row.files + 2 for row in found.stages)  # two of each stage's ledger
    assert found.files == files - min(BLOCKS, sum(row.files for row in found.stages[3:]))


def large_rows(workspace: Workspace, plan: Plan) -> dict[str, StageEstimate]:
    """The estimate of a volume with several groups of blocks and two passes of the pyramid, from a small region."""
    large = plan.model_copy(update={"shape": (2000, 2000, 2000), "roi": "0:2000,0:2000,0:2000"})
    (probe,) = probed_once(workspace, large)["edges"].probes
    small = tuple(row for row in probe.stages if "-" not in row.stage)
    measured = probed_as(probe.model_copy(update={"stages": small}), 2.0)
    return rows_of(estimated(large, workspace, measured, Setting()))


def test_a_second_pass_of_the_pyramid_reads_a_coarse_level(planned: tuple[Workspace, Plan]) -> None:
    rows = large_rows(*planned)
    second = next(name for name in rows if name.startswith("pyramid-"))
    # The voxels are 20 nm deep and 10 nm wide: one level halves only the width, the others all axes.
    coarse = 2000**3 / 4 / 8 ** (int(second.removeprefix("pyramid-")) - 2)
    for name, voxels in (("pyramid", 2000**3), (second, coarse)):
        assert sum(rows[name].disk_bytes.values()) == pytest.approx(voxels, rel=1e-3)
        assert rows[name].seconds == pytest.approx(voxels / 1000, rel=1e-3)


def test_each_level_of_groups_merges_what_the_one_before_left(planned: tuple[Workspace, Plan]) -> None:
    rows = large_rows(*planned)
    names = ["agglomeration-1", "agglomeration-2", "agglomeration"]
    assert [rows[name].blocks for name in names] == [27, 8, 1]
    seconds = [rows[name].seconds for name in names]
    assert seconds[0] == pytest.approx(2000**3 / 1000, rel=1e-3)
    # 5.7 % of the edges wait for the last group. Of the others, each level leaves 45 %.
    assert seconds[1] == pytest.approx(seconds[0] * (0.057 + 0.943 * 0.45), rel=1e-3)
    assert seconds[2] == pytest.approx(seconds[0] * (0.057 + 0.943 * 0.45**2), rel=1e-3)


def test_workers_share_the_blocks(planned: tuple[Workspace, Plan]) -> None:
    workspace, plan = planned
    measured = probed_once(workspace, plan)
    times = {}
    for workers in (1, 5, 24, 100):
        several = plan.model_copy(update={"executor": "local", "workers": workers})
        times[workers] = rows_of(estimated(several, workspace, measured, Setting()))["relabel"]
    assert times[5].seconds == pytest.approx(times[1].seconds / 24 * 5)  # of 24 blocks, one worker gets 5
    assert times[24].seconds == pytest.approx(times[1].seconds / 24)
    assert times[100].workers == 24
    assert times[5].core_hours == pytest.approx(times[1].core_hours)


def test_memory_beyond_that_of_an_empty_worker_grows_with_the_block(planned: tuple[Workspace, Plan]) -> None:
    workspace, plan = planned
    found = estimated(plan, workspace, probed_once(workspace, plan, more_mib=10), Setting(head_mib=70))
    assert rows_of(found)["relabel"].peak_mib == round(100 + 10 * 24**3 / 1000)
    assert found.worker_peak_mib == max(row.peak_mib for row in found.stages)
    assert found.head_peak_mib == 71


def test_memory_that_earlier_stages_freed_stays(planned: tuple[Workspace, Plan]) -> None:
    workspace, plan = planned
    (probe,) = probed_once(workspace, plan)["edges"].probes
    rows = [row.model_copy(update={"base_mib": 500}) if row.stage == "edges" else row for row in probe.stages]
    changed = probed_as(probe.model_copy(update={"stages": tuple(rows)}), 0.0)
    peaks = {row.stage: row.peak_mib for row in estimated(plan, workspace, changed, Setting()).stages}
    assert (peaks["fragments"], peaks["edges"], peaks["relabel"]) == (100, 500, 500)


def test_start_of_stages_counts_once(planned: tuple[Workspace, Plan]) -> None:
    workspace, plan = planned
    quick = estimated(plan, workspace, probed_once(workspace, plan), Setting())
    slow = estimated(plan, workspace, probed_once(workspace, plan, start_s=5.0), Setting())
    assert slow.seconds == pytest.approx(quick.seconds + 5 * len(plan.stages(workspace)))


def test_a_mask_leaves_its_share(planned: tuple[Workspace, Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, plan = planned
    measured = probed_once(workspace, plan)
    whole = rows_of(estimated(plan, workspace, measured, Setting()))
    half = replace(plan.lattice, wanted=lambda z, y, x: np.broadcast_to(z[:, :1, None] < 24, (len(z), len(y), len(x))))
    monkeypatch.setattr(Plan, "lattice", half)
    found = rows_of(estimated(plan, workspace, measured, Setting()))
    for name in ("fragments", "agglomeration", "relabel"):
        assert found[name].seconds == pytest.approx(whole[name].seconds / 2, rel=1e-3)
    assert found["relabel"].blocks == BLOCKS / 2


def test_jobs_gpus_and_cost(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    options = Options(volume=raw_volume, model=tiny_model, output=str(tmp_path / "w"), blocks="16", executor="serial")
    workspace, plan, _ = plan_of_run(options)
    plan = plan.model_copy(update={"executor": "slurm", "workers": 0})
    site = Site(default=Resources(cpus=2, workers=3), stages={"affinities": Resources(gpus=1)})
    found = estimated(plan, workspace, probed_once(workspace, plan), Setting(site, gpus=4))
    rows = rows_of(found)
    assert (rows["affinities"].jobs, rows["fragments"].jobs, rows["agglomeration"].jobs) == (4, 3, 1)
    assert found.gpu_hours == rows["affinities"].gpu_hours > 0
    assert rows["affinities"].core_hours == pytest.approx(2 * rows["affinities"].gpu_hours)
    for row in found.stages:
        assert row.cost(2.0, 0.5) == pytest.approx(2 * row.gpu_hours + 0.5 * row.core_hours)
    # Prediction has its own jobs, so that the other stages run meanwhile.
    behind = rows["fragments"].seconds + rows["edges"].seconds
    rest = sum(row.seconds for row in found.stages) - behind - rows["affinities"].seconds
    assert found.seconds == pytest.approx(2.0 + max(behind, rows["affinities"].seconds) + rest)


def test_each_stage_is_estimated_from_its_own_kind(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    options = Options(volume=raw_volume, model=tiny_model, output=str(tmp_path / "w"), blocks="16", executor="serial")
    workspace, plan, _ = plan_of_run(options)
    here = probed_once(workspace, plan)
    (slow,) = probed_once(workspace, plan, seconds=7.0, base_mib=900)["edges"].probes
    predicting = Probed((slow.model_copy(update={"host": "gpu1", "device": "cuda:0"}),), 5.0, "predict")
    rows = rows_of(estimated(plan, workspace, here, Setting()))
    found = estimated(plan, workspace, {**here, "affinities": predicting}, Setting())
    for name, row in rows_of(found).items():
        is_slow = name == "affinities"
        assert row.seconds == pytest.approx(rows[name].seconds * (7 if is_slow else 1))
        assert (row.peak_mib >= 900) == is_slow
        assert (row.kind, row.hosts) == (("predict", ("gpu1",)) if is_slow else ("", ("lab1",)))
        assert row.device == ("cuda:0" if is_slow else "cpu")
    more = 6 * rows["affinities"].seconds + 3  # the slowest start of a worker counts
    assert found.seconds == pytest.approx(estimated(plan, workspace, here, Setting()).seconds + more)


def test_advice_compares_the_devices(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    options = Options(volume=raw_volume, model=tiny_model, output=str(tmp_path / "w"), blocks="16", executor="serial")
    workspace, plan, _ = plan_of_run(options)
    plan = plan.model_copy(update={"executor": "slurm"})
    cpu = estimated(plan, workspace, probed_once(workspace, plan), Setting())
    gpu = [row.model_copy(update={"device": "cuda:0"}) if row.stage == "affinities" else row for row in cpu.stages]

    def words(device: str, estimate: Estimate) -> str:
        return "\n".join(advice_for(plan.model_copy(update={"device": device}), workspace, estimate, Setting()))

    assert "add --probe-jobs" in words("cuda", cpu)
    assert "add --probe-jobs" not in words("cuda", cpu.model_copy(update={"stages": tuple(gpu)}))
    assert "add --probe-jobs" not in words("cpu", cpu)


def test_streamed_affinities_count_only_the_blocks_that_exist(raw_volume: str, tiny_model: str, tmp_path: Path) -> None:
    options = Options(volume=raw_volume, model=tiny_model, output=str(tmp_path / "w"), blocks="16", executor="serial")
    workspace, plan, _ = plan_of_run(options.model_copy(update={"roi": "0:16,0:16,:"}))
    plan = plan.model_copy(update={"shape": (40, 50, 1600), "roi": "0:16,0:16,0:1600"})
    measured = probed_once(workspace, plan)
    kept, streamed = (estimated(plan, workspace, measured, Setting(is_streamed=each)) for each in (False, True))
    assert rows_of(streamed)["affinities"].disk_bytes["affinities.zarr"] == pytest.approx(16 * 16 * 1600 * 4 / 100)
    assert streamed.peak_disk_bytes < kept.peak_disk_bytes
    assert (kept.is_streamed, streamed.is_streamed) == (False, True)


def test_advice_names_the_option(
    raw_volume: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(volume=raw_volume, model=tiny_model, output=str(tmp_path / "w"), blocks="16", executor="serial")
    workspace, plan, _ = plan_of_run(options)
    plan = plan.model_copy(update={"shape": (40, 50, 1600), "roi": "0:16,0:16,0:1600"})
    fitting = estimated(plan, workspace, probed_once(workspace, plan), Setting())

    def about(estimate: Estimate, word: str) -> list[str]:
        return [each for each in advice_for(plan, workspace, estimate, Setting()) if word in each]

    assert about(fitting, "disk") == about(fitting, "memory") == []
    monkeypatch.setattr("neuroseg.runs.plan_advice.free_bytes", lambda path: fitting.peak_disk_bytes - 1000)
    assert "--keep stream" in about(fitting, "disk")[0]
    monkeypatch.setattr("neuroseg.runs.plan_advice.free_bytes", lambda path: 1000)
    assert "--roi" in about(fitting, "disk")[0]
    huge = [row.model_copy(update={"peak_mib": 10**9}) if row.stage == "lookup" else row for row in fitting.stages]
    assert "stage lookup needs" in about(fitting.model_copy(update={"stages": tuple(huge)}), "memory")[0]
    many = [row.model_copy(update={"workers": 10**6}) if row.stage == "edges" else row for row in fitting.stages]
    assert "--workers" in about(fitting.model_copy(update={"stages": tuple(many)}), "memory")[0]
    few = plan.model_copy(update={"workers": 5000, "executor": "local"})
    assert any("5000 workers share" in each for each in advice_for(few, workspace, fitting, Setting()))
