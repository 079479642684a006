"""Files of suspects: the table, and the annotation layer whose coordinates a viewer places at the voxels."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from neuroseg.evaluation.suspect import END, SPLIT, Suspect
from neuroseg.evaluation.suspect_files import COLUMNS, write_annotations, write_csv
from neuroseg.volumes.volume import Volume

FOUND = [
    Suspect(
        kind=SPLIT,
        bits=0.25,
        place_voxels=(1, 2, 3),
        place_nm=(40.0, 20.0, 30.0),
        segments=(5, 6),
        truth=(2**63,),
        fragments=(11, 12),
        score=0.125,
        description="a, b",
        other_voxels=(1, 2, 4),
        other_nm=(40.0, 20.0, 40.0),
    ),
    Suspect(END, 0.125, (7, 8, 9), None, (4,), description="ends"),
]


def labels(size: tuple[float, float, float] | None = (40.0, 10.0, 8.0)) -> Volume:
    offset = (80.0, -5.0, 16.0) if size else (0.0, 0.0, 0.0)
    return Volume("labels", np.zeros((9, 9, 11), np.uint64), size, offset)


def test_the_table_is_read_back(tmp_path: Path) -> None:
    write_csv(tmp_path / "s.csv", FOUND)
    with (tmp_path / "s.csv").open() as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == COLUMNS
    assert [first[name] for name in ("rank", "kind", "bits", "z", "x_nm", "other_x", "segments", "truth")] == [
        "1", "split", "0.250000000", "1", "30.0", "4", "5 6", str(2**63),
    ]  # fmt: skip
    assert (first["fragments"], first["score"], first["description"]) == ("11 12", "0.125", "a, b")
    assert [second[name] for name in ("x_nm", "other_z", "truth", "score")] == [""] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["s.csv"]


@pytest.mark.parametrize("is_image", [True, False])
def test_annotations_are_points_and_lines_at_their_voxels(is_image: bool, tmp_path: Path) -> None:
    write_annotations(tmp_path / "s.json", FOUND, labels(), is_image=is_image)
    layer = json.loads((tmp_path / "s.json").read_text())
    assert (layer["type"], layer["name"], layer["source"]["url"]) == ("annotation", "suspects", "local://annotations")
    line, point = layer["annotations"]
    assert (line["type"], line["id"], line["pointA"], line["pointB"]) == ("line", "1", [3, 2, 1], [4, 2, 1])
    assert (point["type"], point["id"], point["point"]) == ("point", "2", [9, 8, 7])
    assert line["description"] == "1. split, 0.2500 bits: a, b"
    transform = layer["source"]["transform"]
    assert list(transform["outputDimensions"]) == ["x", "y", "z"]
    assert transform["outputDimensions"]["x"] == [8e-9, "m"]
    at = np.array(transform["matrix"]) @ [*point["point"], 1]
    # neuroglancer draws voxel 0 of an image around its translation, and voxel 0 of another array after its offset.
    drawn = np.array([16, -5, 80]) / [8, 10, 40] + [9, 8, 7] + (0 if is_image else 0.5)
    assert at.tolist() == pytest.approx(drawn.tolist())


def test_labels_without_a_voxel_size_have_coordinates_in_voxels(tmp_path: Path) -> None:
    write_annotations(tmp_path / "s.json", [], labels(None), is_image=False)
    layer = json.loads((tmp_path / "s.json").read_text())
    assert layer["annotations"] == []
    assert layer["source"]["transform"]["outputDimensions"]["z"] == [1, ""]


def test_neuroglancer_reads_the_layer(tmp_path: Path) -> None:
    viewer_state = pytest.importorskip("neuroglancer.viewer_state")
    write_annotations(tmp_path / "s.json", FOUND, labels(), is_image=True)
    state = viewer_state.ViewerState({"layers": [json.loads((tmp_path / "s.json").read_text())]})
    layer = state.layers["suspects"].layer
    assert [type(each).__name__ for each in layer.annotations] == ["LineAnnotation", "PointAnnotation"]
    assert layer.annotations[0].point_a.tolist() == [3, 2, 1]
    assert layer.source[0].transform.output_dimensions.units == ("m", "m", "m")
