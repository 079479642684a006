"""The sections of what the run used: time, memory and disk by stage, configuration, versions, and the command."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from neuroseg import __version__
from neuroseg.report.markup import command, counted, facts, heading, paragraph, seconds_text, section, table
from neuroseg.report.reported import ReportedRun
from neuroseg.report.reproduction import command_of
from neuroseg.report.stage_records import StageRecords
from neuroseg.runs.plan import PREDICTION, read_options
from neuroseg.storage.space import readable

_PACKAGES = ("numpy", "numba", "scipy", "zarr", "torch", "daisy", "pyarrow", "matplotlib", "pillow")
# Keys of the plan that describe the input in checksums.
_HASHES = ("input_content", "device_identity", "selection", "mask", "predicted_mask")


def resources_section(run: ReportedRun) -> str:
    """Return time, rate, memory, workers and stored bytes of each stage that has done blocks."""
    stages = [stage for stage in run.stages if len(stage.indices)]
    if not stages:
        return section("resources", "Time, memory and disk", paragraph("No block is done yet."))
    head = ("stage", "blocks", "elapsed", "computing", "Mvoxel/s", "peak MiB", "workers", "on disk")
    rows = [_resources(stage) for stage in stages]
    total = sum(sum(stage.stored.values()) for stage in stages)
    computing = sum(float(stage.seconds.sum()) for stage in stages)
    hosts = sorted({host for stage in stages for host in stage.hosts})
    devices = sorted({device for stage in stages for device in stage.devices})
    shown = ", ".join(hosts[:5]) + (f" and {len(hosts) - 5} more" if len(hosts) > 5 else "")
    text = (
        f"Computing time: {seconds_text(computing)}. On disk: {readable(total)}. "
        f"{'Machine' if len(hosts) == 1 else 'Machines'}: {shown}. {'Device' if len(devices) == 1 else 'Devices'}: "
        f"{', '.join(devices)}."
    )
    note = (
        "Elapsed: from the first block of a stage to its last; stages overlap, and pauses between runs count. "
        "Computing: the sum over all blocks. Peak: of the worker with the most memory."
    )
    return section("resources", "Time, memory and disk", paragraph(text), table(head, rows), paragraph(note, "note"))


def _resources(stage: StageRecords) -> tuple[str, ...]:
    rate = f"{stage.voxels / stage.elapsed_s / 1e6:.2f}" if stage.elapsed_s > 0 else "–"
    stored = sum(stage.stored.values())
    return (
        stage.name,
        f"{len(stage.indices):,}",
        seconds_text(stage.elapsed_s),
        seconds_text(float(stage.seconds.sum())),
        rate,
        f"{stage.peak_mib.max():,.0f}",
        f"{stage.workers:,}",
        readable(stored) if stored else "–",
    )


def settings_section(run: ReportedRun) -> str:
    """Return the command that repeats the run, the given options, the resolved plan and the versions."""
    content = run.workspace.read_run()
    predicted = not any(stage.is_begun for stage in run.stages if stage.name not in PREDICTION)
    repeat = command_of(
        read_options(run.workspace), run.plan, str(run.workspace.path), is_predicted_only=predicted and bool(run.stages)
    )
    given = content.get("options", {})
    plan = {key: value for key, value in run.plan.model_dump(mode="json").items() if key not in _HASHES}
    plan |= {"mask": run.plan.mask.path if run.plan.mask else None, "edits": len(run.plan.edits)}
    parts = [
        heading("Repeat the run"),
        command(*repeat),
        paragraph(f"This uses the same workspace. For a copy, give another folder with -o.{_edits(run)}", "note"),
        heading("Given options"),
        facts([(key, _value(value)) for key, value in given.items()]) if given else paragraph("None."),
        heading("All settings"),
        facts([(key, _value(value)) for key, value in plan.items()]),
        heading("Versions"),
        facts(_versions(str(content.get("neuroseg", "")), run.plan.device_identity)),
    ]  # fmt: skip
    return section("settings", "Configuration", *parts)


def _versions(of_run: str, device: dict[str, str]) -> list[tuple[str, str]]:
    """Return the versions of the run, and those of the machine that wrote the report."""
    found = [("neuroseg (run)", of_run), *((f"{key} (prediction)", value) for key, value in device.items())]
    found += [("neuroseg (report)", __version__), ("Python", platform.python_version())]
    for name in _PACKAGES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return [*found, ("system", platform.platform())]


def _value(value: Any) -> str:
    """Return a value as text, as a user would type it."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        separator = "; " if value and isinstance(value[0], list) else ", "
        return separator.join(_value(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def blocks_text(run: ReportedRun) -> str:
    """Return the number of done and missing blocks of all stages in words."""
    done = sum(len(stage.indices) for stage in run.stages)
    left = sum(len(stage.left) for stage in run.stages if stage.is_begun)
    return counted(done, "block") + " done" + (f", {counted(left, 'block')} not done" if left else "")


def _edits(run: ReportedRun) -> str:
    """Return how a copy gets the edits by hand. Empty without edits."""
    if not run.plan.edits:
        return ""
    return f" Then add the edits: neuroseg edits COPY --apply {run.workspace.edits}."
