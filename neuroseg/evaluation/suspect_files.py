"""Suspects -> CSV, and a layer of annotations for neuroglancer."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuroseg.evaluation.suspect import Suspect
from neuroseg.storage.publish import publish_text, published
from neuroseg.volumes.volume import Volume

COLUMNS = (
    "rank", "kind", "bits", "z", "y", "x", "z_nm", "y_nm", "x_nm", "other_z", "other_y", "other_x",
    "segments", "truth", "fragments", "score", "description",
)  # fmt: skip

_NOWHERE = ("", "", "")
_NM_PER_M = 1e9


def write_csv(path: Path, suspects: Sequence[Suspect]) -> None:
    """Write one row per suspect with a header line, the first suspect first. Readers never see a partial file.

    Several ids of one column are separated by spaces. Unknown values are empty.
    """
    with published(path) as aside, aside.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for rank, each in enumerate(suspects, 1):
            positions = (*each.place_voxels, *(each.place_nm or _NOWHERE), *(each.other_voxels or _NOWHERE))
            ids = [" ".join(map(str, column)) for column in (each.segments, each.truth, each.fragments)]
            score = "" if each.score is None else each.score
            writer.writerow([rank, each.kind, f"{each.bits:.9f}", *positions, *ids, score, each.description])


def write_annotations(
    path: Path, suspects: Sequence[Suspect], segmentation: Volume, *, is_image: bool, name: str = "suspects"
) -> None:
    """Write `annotation_layer` as JSON. Readers never see a partial file."""
    layer = annotation_layer(suspects, segmentation, is_image=is_image, name=name)
    publish_text(path, json.dumps(layer, indent=1) + "\n")


def annotation_layer(suspects: Sequence[Suspect], segmentation: Volume, *, is_image: bool, name: str) -> dict[str, Any]:
    """Return a layer of type `annotation` with local annotations, for the list `layers` of a neuroglancer state.

    A suspect is a line between both sides of its contact, or a point if only one side is known. Coordinates are voxel
    indices of the segmentation, in the order x, y, z. `source.transform` describes their space: the voxel size in
    metres, and the position of voxel 0 in the viewer. So the annotations appear in the middle of their voxels. The
    viewer draws voxel 0 of an OME-NGFF image (`is_image`) around its position, and that of another array after it.
    """
    return {
        "type": "annotation",
        "name": name,
        "source": {"url": "local://annotations", "transform": _transform(segmentation, 0.0 if is_image else 0.5)},
        "annotations": [_annotation(rank, suspect) for rank, suspect in enumerate(suspects, 1)],
    }


def _annotation(rank: int, suspect: Suspect) -> dict[str, Any]:
    text = f"{rank}. {suspect.kind}, {suspect.bits:.4f} bits: {suspect.description}"
    head = {"id": str(rank), "description": text}
    place = list(reversed(suspect.place_voxels))
    if suspect.other_voxels is None:
        return {"type": "point", **head, "point": place}
    return {"type": "line", **head, "pointA": place, "pointB": list(reversed(suspect.other_voxels))}


def _transform(segmentation: Volume, shift_voxels: float) -> dict[str, Any]:
    size = segmentation.voxel_size_nm
    if size is None:
        scales: dict[str, list[Any]] = {axis: [1, ""] for axis in "xyz"}
        begin = [shift_voxels] * 3
    else:
        scales = {axis: [edge / _NM_PER_M, "m"] for axis, edge in zip("xyz", reversed(size), strict=True)}
        begin = [o / s + shift_voxels for o, s in zip(reversed(segmentation.offset_nm), reversed(size), strict=True)]
    matrix = [[1.0 if row == column else 0.0 for column in range(3)] + [begin[row]] for row in range(3)]
    return {"matrix": matrix, "inputDimensions": scales, "outputDimensions": scales}
