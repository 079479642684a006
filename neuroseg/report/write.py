"""Write the report of a workspace."""

from __future__ import annotations

import logging
from pathlib import Path

from neuroseg.errors import InputError
from neuroseg.report.blocks_section import blocks_section
from neuroseg.report.page import page
from neuroseg.report.planes_section import planes_section
from neuroseg.report.reported import ReportedRun
from neuroseg.report.scores_section import scores_section
from neuroseg.report.seams_section import seams_section
from neuroseg.report.segments_section import segments_section
from neuroseg.report.settings_section import resources_section, settings_section
from neuroseg.report.summary_section import summary_section
from neuroseg.report.suspects_section import suspects_section
from neuroseg.runs.pipeline import workspace_at
from neuroseg.storage.publish import publish_text, require_publishable
from neuroseg.storage.workspace import Workspace

NAME = "report.html"

logger = logging.getLogger(__name__)


def write_report(address: str, *, truth: str | None = None, output: Path | None = None) -> Path:
    """Write the report of a workspace in one step, and return its path: `output`, or report.html in the workspace.

    With `truth`, it contains scores and the errors against it. Raises InputError if there is no workspace, if `output`
    cannot be written, or if truth and segmentation cannot be compared.
    """
    workspace, plan = workspace_at(address)
    if output is not None:
        require_publishable(output, ".html")
    path = output or workspace.path / NAME
    publish_text(path, report_of(ReportedRun(workspace, plan, truth)), flush=False)
    return path


def report_of(run: ReportedRun, *, is_brief: bool = False) -> str:
    """Return the report as HTML. A brief one does not search places to inspect, which needs all tables of the run.

    Raises InputError as `write_report`.
    """
    if run.truth_address is not None and run.segmentation is None:
        raise InputError(
            f"{run.workspace.path} has no segmentation to score",
            hint=f"run neuroseg segment {run.workspace.path}, or leave --truth out",
        )
    sections = [
        planes_section(run),
        scores_section(run),
        segments_section(run),
        "" if is_brief or not run.is_published else suspects_section(run),
        seams_section(run),
        blocks_section(run),
        resources_section(run),
        settings_section(run),
    ]
    return page(f"neuroseg report: {run.workspace.path.resolve().name}", summary_section(run), sections)


def write_at_end(workspace: Workspace) -> Path | None:
    """Write a brief report at the end of a run. If that fails, log one warning and return None: the run is not lost."""
    try:
        _, plan = workspace_at(str(workspace.path))
        path = workspace.path / NAME
        publish_text(path, report_of(ReportedRun(workspace, plan), is_brief=True), flush=False)
    except Exception as error:
        logger.warning("no report was written: %s: %s", type(error).__name__, str(error).partition("\n")[0])
        return None
    return path
