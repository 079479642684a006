"""The section of the places to inspect: errors that the truth shows, or suspects from the merge tree, with pictures."""

from __future__ import annotations

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.checks.suspects import errors_of, suspects_of
from neuroseg.evaluation.suspect import Suspect
from neuroseg.geometry import Triple, triple
from neuroseg.report.markup import command, figure, group, paragraph, picture, section
from neuroseg.report.planes import Columns
from neuroseg.report.reported import UNREADABLE, ReportedRun
from neuroseg.report.shown_places import crop_around
from neuroseg.views.figure import PLANES
from neuroseg.views.webp import photo

_SHOWN = 6
_CROP_VOXELS = 128


def suspects_section(run: ReportedRun) -> str:
    """Return pictures of the worst places. One sentence if they cannot be found, such as without a merge tree."""
    title = "Places to inspect"
    path = str(run.workspace.path)
    try:
        found = (
            suspects_of(path, top=_SHOWN)
            if run.truth_address is None
            else errors_of(path, run.truth_address, top=_SHOWN)
        )
    except UNREADABLE as error:
        return section("suspects", title, paragraph(f"Not searched: {str(error).splitlines()[0]}", "note"))
    if not found:
        return section("suspects", title, paragraph("No suspicious place was found."))
    text = "The places whose decision changes the result most if it is wrong. The ring marks the place."
    if run.truth_address is not None:
        text = "The worst errors against the ground truth. The ring marks the place."
    columns = Columns(run)
    cards = [_card(run, columns, number, each) for number, each in enumerate(found, 1)]
    more = [] if run.truth_address is None else ["--truth", run.truth_address]
    list_all = [paragraph("To list more:"), command("neuroseg", "suspects", path, *more)]
    return section("suspects", title, paragraph(text), group("cards", cards), *list_all)


def _card(run: ReportedRun, columns: Columns, number: int, suspect: Suspect) -> str:
    """Return raw and segmentation around the place, in the plane that shows the other side of the contact."""
    crop, row = _view(run, suspect)
    place = columns.pictures(crop)
    name, _, down, right = PLANES[row]
    size = run.plan.voxel_size_nm
    extent = (crop.shape[right] * size[right], crop.shape[down] * size[down])
    under = [each for each in place.columns if each in ("raw", "affinities", "boundaries")][:1]
    shown = under + [each for each in ("segmentation", "truth") if each in place.columns]
    voxel = ",".join(map(str, suspect.place_voxels))
    left, top = (100 * (suspect.place_voxels[n] + 0.5 - int(crop.begin[n])) / int(crop.shape[n]) for n in (right, down))
    ring = f'<span class="ring" style="left:{left:.1f}%;top:{top:.1f}%"></span>'
    pictures = [
        group(
            "over", [picture(photo(place.columns[each][row]), f"{each} at voxel {voxel}, {name} plane", extent), ring]
        )
        for each in shown
    ]
    words = f"{number}. {suspect.kind}, {suspect.bits:.4f} bits, at {voxel} (z,y,x), {name} plane"
    return figure(group("pair", pictures), f"{words}: {suspect.description}")


def _view(run: ReportedRun, suspect: Suspect) -> tuple[Roi, int]:
    """Return the crop around a place, and the row of PLANES that contains most of the way to the other side."""
    size = np.array(run.plan.voxel_size_nm)
    edge = _CROP_VOXELS * size.min()
    shape = triple([max(1, min(int(n), round(edge / s))) for n, s in zip(run.region.shape, size, strict=True)])
    row = 0
    if suspect.other_voxels is not None:
        way: NDArray[np.float64] = np.abs(np.subtract(suspect.other_voxels, suspect.place_voxels)) * size
        row = int(way.argmin())
    # The plane through the place is shown, even if the crop was moved into the region.
    axis = PLANES[row][1]
    thin = list(shape)
    thin[axis] = 1
    flat: Triple = triple(thin)
    return crop_around(suspect.place_voxels, flat, run.region), row
