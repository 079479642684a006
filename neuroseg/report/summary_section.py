"""The first section: the state of the run, and its most important numbers."""

from __future__ import annotations

import time

from neuroseg.checks.run_state import DONE, FAILED, RUNNING, STOPPED, state_of
from neuroseg.report.largest import stored_sizes
from neuroseg.report.markup import escape, facts, length_text, paragraph, seconds_text
from neuroseg.report.reported import UNREADABLE, ReportedRun
from neuroseg.report.settings_section import blocks_text

_WORDS = {
    DONE: "The run is complete.",
    FAILED: "Blocks have failed. The section Blocks lists the causes; the same command retries these blocks.",
    RUNNING: "The run was still active when this report was written.",
    STOPPED: "The run is not complete. The same command resumes it.",
}


def state(run: ReportedRun) -> str:
    """Return the state of the run: done, failed, running or stopped."""
    rows = [
        {"stage": each.name, "begun": each.is_begun, "failed": len(each.failures), "left": len(each.left)}
        for each in run.stages
    ]
    return state_of(rows, is_in_use=run.workspace.is_in_use(), is_published=run.is_published)


def summary_section(run: ReportedRun) -> str:
    """Return the header of the page: title, state and numbers."""
    plan, now = run.plan, state(run)
    extent = " x ".join(length_text(n * s) for n, s in zip(run.region.shape, plan.voxel_size_nm, strict=True))
    voxels = " x ".join(f"{size:,}" for size in run.region.shape)
    pairs = [
        ("volume", plan.path),
        ("region", f"{voxels} voxels, {extent} (z, y, x)"),
        ("voxel size", f"{' x '.join(f'{size:g}' for size in plan.voxel_size_nm)} nm"),
        ("blocks", f"{' x '.join(map(str, plan.blocks))} voxels; {blocks_text(run)}"),
    ]
    if plan.mask is not None:
        pairs.append(("mask", plan.mask.path))
    if plan.model is not None:
        pairs.append(("model", str(plan.model_identity)))
    if run.made_by:
        pairs.append(("threshold", f"{run.made_by.get('threshold'):g} ({run.made_by.get('scoring')})"))
    if (segments := _segments(run)) is not None:
        pairs.append(("segments", f"{segments:,}"))
    if any(stage.elapsed_s for stage in run.stages):
        slowest = max(run.stages, key=lambda stage: stage.elapsed_s)
        pairs.append(("slowest stage", f"{slowest.name}, {seconds_text(slowest.elapsed_s)}"))
    written = time.strftime("%Y-%m-%d %H:%M %Z")
    kind = {DONE: "good", FAILED: "warning"}.get(now, "note")
    lines = [
        "<header>",
        paragraph(f"neuroseg report, written {written}", "quiet"),
        f"<h1>{escape(run.workspace.path.resolve().name)}</h1>",
        paragraph(_WORDS[now], kind),
        facts(pairs),
        "</header>",
    ]
    return "\n".join(lines)


def _segments(run: ReportedRun) -> int | None:
    if not run.is_published:
        return None
    try:
        sizes = stored_sizes(run.workspace)
    except UNREADABLE:
        return None
    return None if sizes is None else int((sizes[1:] > 0).sum())
