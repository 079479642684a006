"""Find the places of a segmentation to inspect: errors that a ground truth shows, or suspects from the merge tree."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from funlib.geometry import Roi

from neuroseg.checks.located_suspects import located_end, located_merge, merges_of
from neuroseg.checks.score import opened_labels
from neuroseg.checks.tree_run import fragments_of, tree_run
from neuroseg.errors import InputError
from neuroseg.evaluation.boxes import BOX_VOXELS, Progress
from neuroseg.evaluation.end_suspects import end_suspects
from neuroseg.evaluation.evaluate import border_of, overlap_of, require_labels
from neuroseg.evaluation.suspect import Suspect, distinct
from neuroseg.evaluation.suspect_files import write_annotations
from neuroseg.evaluation.truth_errors import errors_between
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.input_checks import require_label_values
from neuroseg.volumes.placement import CENTRE
from neuroseg.volumes.volume import Volume

TOP = 50

logger = logging.getLogger(__name__)


def errors_of(
    segmentation: str,
    truth: str,
    *,
    roi: str | None = None,
    ignore: Sequence[int] = (0,),
    border_nm: float = 0.0,
    top: int | None = TOP,
    box_voxels: int = BOX_VOXELS,
    shown: Callable[[str], Progress] = lambda step: lambda done, total: None,
) -> list[Suspect]:
    """Return the `top` split and merge errors of a workspace or a label volume, the worst first; None: all errors.

    `truth`, `roi`, `ignore` and `border_nm` are the options of `neuroseg evaluate`. See truth_errors.py. With a
    workspace that contains its fragments, the fragments at the place are returned. Logs a warning for each placement
    or voxel size that is assumed. Raises InputError as `evaluate` does, and if `top` is below 1.
    """
    _require_top(top)
    workspace, labels, made_by = opened_labels(segmentation)
    require_labels(labels)
    true = require_labels(open_any(truth))
    overlap = overlap_of(labels, true, roi or made_by.get("roi"))
    border = border_of(labels, true, border_nm)
    for volume in (true,) if workspace else (labels, true):
        require_label_values(volume)
    for assumption in overlap.assumptions:
        logger.warning("assumed: %s", assumption)
    labels = replace(labels, voxel_size_nm=labels.voxel_size_nm or true.voxel_size_nm)
    errors = errors_between(labels, true, overlap, ignore, border=border, top=top, box_voxels=box_voxels, shown=shown)
    if workspace is None or not workspace.fragments.exists():
        return errors
    fragments = fragments_of(workspace, labels)
    return [replace(error, fragments=_fragments_at(fragments, error)) for error in errors]


def suspects_of(workspace: str, *, top: int | None = TOP, box_voxels: int = BOX_VOXELS) -> list[Suspect]:
    """Return the `top` suspects from the merge tree of a workspace, the most suspicious first; None: all suspects.

    See merge_suspects.py and end_suspects.py. The list does not depend on the blocks of the run or on `box_voxels`.
    Without the tables of edges (--keep), there is no suspect of kind `small contact`, and a warning is logged. Raises
    InputError if `workspace` is not a finished workspace with a merge tree and fragments, and if `top` is below 1.
    """
    _require_top(top)
    run = tree_run(workspace)
    rows = merges_of(run)
    ends = end_suspects(run.segments, run.roi, run.plan.voxel_size_nm)
    # Rank by bits, then merges before ends, then by row of the tree or by segment.
    of_ends = np.repeat([0, 1], [len(rows["bits"]), len(ends["bits"])])
    numbers = np.concatenate([np.arange(len(rows["bits"])), np.arange(len(ends["bits"]))])
    order = np.lexsort((numbers, of_ends, -np.concatenate([rows["bits"], ends["bits"]])))
    found = (
        located_end(run, ends, int(numbers[at]), box_voxels)
        if of_ends[at]
        else located_merge(run, rows, int(numbers[at]), box_voxels)
        for at in order
    )
    return list(islice((suspect for suspect in found if suspect is not None), top))


def write_layer(path: Path, suspects: Sequence[Suspect], segmentation: str, name: str) -> None:
    """Write suspects of a workspace or a label volume as a layer for neuroglancer (evaluation/suspect_files.py)."""
    workspace, labels, _ = opened_labels(segmentation)
    is_image = workspace is not None or labels.convention == CENTRE
    write_annotations(path, suspects, labels, is_image=is_image, name=name)


def _require_top(top: int | None) -> None:
    if top is not None and top < 1:
        raise InputError(f"the number of places is {top}, expected 1 or more", hint="use for example --top 50")


def _fragments_at(fragments: Volume, suspect: Suspect) -> tuple[int, ...]:
    voxels = [voxel for voxel in (suspect.place_voxels, suspect.other_voxels) if voxel is not None]
    ids = [int(fragments.read(Roi(voxel, (1, 1, 1))).item()) for voxel in voxels]
    return distinct(*ids) if all(ids) else ()
