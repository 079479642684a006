"""The section of the scores: the segmentation against ground truth, and the scores at every threshold."""

from __future__ import annotations

from typing import Any

from neuroseg.agglomeration.names import MERGE_TREE
from neuroseg.checks.score import Request, score
from neuroseg.report.markup import command, facts, figure, paragraph, percent, section
from neuroseg.report.reported import ReportedRun
from neuroseg.storage.merges import has_merges

# Colours of the figure that follow the page.
_COLOURS = {"#222222": "var(--ink)", "#555555": "var(--quiet)", "#ffffff": "var(--paper)", "#c4c4c4": "var(--rule)"}


def scores_section(run: ReportedRun) -> str:
    """Return the scores against the truth of the report. Empty without truth.

    Raises InputError if truth and segmentation cannot be compared, or if there is no segmentation.
    """
    if run.truth_address is None:
        return ""
    workspace, plan = run.workspace, run.plan
    stored = workspace.fragments.exists() and has_merges(workspace)
    has_tree = plan.agglomeration == MERGE_TREE and stored and plan.scoring == run.made_by.get("scoring")
    result = score(Request(str(workspace.path), run.truth_address, sweep=has_tree))
    parts = [_numbers(run, result)]
    parts += [paragraph(f"Assumed: {assumption}.", "note") for assumption in result["assumptions"]]
    if has_tree:
        parts += _curve(run, result)
    else:
        parts.append(paragraph("No curve: the workspace has no merge tree of this segmentation.", "note"))
    return section("scores", "Scores against ground truth", *parts)


def _numbers(run: ReportedRun, result: dict[str, Any]) -> str:
    return facts(
        [
            ("VOI sum", f"{result['voi_sum']:.3f} bits"),
            ("VOI split", f"{result['voi_split']:.3f} bits"),
            ("VOI merge", f"{result['voi_merge']:.3f} bits"),
            ("ARAND", f"{result['arand']:.3f}"),
            ("true objects", f"{result['truth_objects']:,}"),
            ("truth", str(run.truth_address)),
            ("scored region", f"{result['roi']} ({percent(result['coverage'])} of the segmentation)"),
        ]
    )


def _curve(run: ReportedRun, result: dict[str, Any]) -> list[str]:
    """Return the figure of all thresholds, and what follows from it."""
    from neuroseg.views.curve import curve_figure
    from neuroseg.views.inline_svg import inline_svg

    best = min(result["sweep"], key=lambda row: row["voi_sum"])
    alternative = (
        f"VOI split and VOI merge at thresholds from 0.02 to 0.98; the lowest sum, {best['voi_sum']:.3f} bits, is at "
        f"threshold {best['threshold']:g}"
    )
    svg = inline_svg(curve_figure(result["sweep"], result), "curve", alternative, _COLOURS)
    parts = [figure(_scrolled(svg), "Scores at every threshold of the merge tree.")]
    if best["threshold"] == result["threshold"]:
        return [*parts, paragraph("The stored threshold is the best of the sweep.", "good")]
    text = (
        f"The best threshold of the sweep is {best['threshold']:g} with a sum of {best['voi_sum']:.3f} bits. "
        f"The stored one is {result['threshold']:g}. To store the best one, run:"
    )
    store = command("neuroseg", "segment", str(run.workspace.path), "--threshold", f"{best['threshold']:g}")
    return [*parts, paragraph(text), store]


def _scrolled(svg: str) -> str:
    """Return a drawing that keeps a readable width on narrow screens and scrolls there."""
    return f'<div class="wide"><div class="least">{svg}</div></div>'
