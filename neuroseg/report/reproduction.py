"""The options in run.yaml -> the command that repeats the run."""

from __future__ import annotations

from neuroseg.geometry import describe, whole
from neuroseg.runs.options import Options
from neuroseg.runs.plan import Plan

_SWITCHES = ("invert", "force")
# The input is the argument or has its own option; the region is that of the plan.
_APART = ("volume", "input", "output", "affinities", "boundaries", "roi")
# Options of the command line that a prediction does not take.
_SEGMENTATION = (
    "mask_boundary", "fragments", "per_section", "long_range", "scoring", "agglomeration", "threshold", "min_size",
    "small", "keep", "affinities", "boundaries", "offsets",
)  # fmt: skip


def command_of(options: Options, plan: Plan, workspace: str, *, is_predicted_only: bool) -> list[str]:
    """Return the words of the command of a run.

    It contains every option that the workspace remembers, the region unless it is the whole volume, and the workspace.
    The result is the same for another workspace, so `-o` may be changed. Options of a cluster are not remembered.
    """
    words = ["neuroseg", "segment" if plan.kind != "raw" else "predict" if is_predicted_only else "run"]
    words += [plan.path] if plan.kind == "raw" else [f"--{plan.kind}", plan.path]
    skipped = {*_APART, *(_SEGMENTATION if words[1] == "predict" else ())}
    for name, value in options.model_dump(exclude_none=True, exclude_defaults=True).items():
        if name not in skipped:
            words += _flag(name, value)
    if plan.roi != describe(whole(plan.shape)):
        words += ["--roi", plan.roi]
    return [*words, "-o", workspace]


def _flag(name: str, value: object) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if name in _SWITCHES:
        return [flag]
    if isinstance(value, tuple):
        return [flag, *(f"{part:g}" if isinstance(part, float) else str(part) for part in value)]
    text = str(value)
    # A value that begins with a minus would be read as an option.
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]
