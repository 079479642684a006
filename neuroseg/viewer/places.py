"""The places to inspect, as the page lists them and as annotations that neuroglancer draws.

truth  ->  split and merge errors        no truth  ->  suspects from the merge tree
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neuroseg.checks.suspects import errors_of, suspects_of
from neuroseg.errors import InputError
from neuroseg.evaluation.suspect import MERGE, SPLIT, Suspect
from neuroseg.geometry import Triple
from neuroseg.viewer.layers import Layer

# As in the figures: splits are blue, merges red. Suspects are yellow.
_COLOURS = {SPLIT: "#6fa4dd", MERGE: "#ff6a55"}
_SUSPECT_COLOUR = "#ffd166"


def places_of(workspace: str, truth: str | None, first: Layer) -> dict[str, Any]:
    """Return the places to inspect as `places`, the worst first. Empty if the run is not finished.

    Positions are (x, y, z) in voxels of the layer `first`, whose corner lies at its offset.
    """
    try:
        found = suspects_of(workspace) if truth is None else errors_of(workspace, truth)
    except InputError:
        found = []
    return {"places": [_described(each, first) for each in found]}


def _described(suspect: Suspect, first: Layer) -> dict[str, Any]:
    return {
        "kind": suspect.kind,
        "bits": suspect.bits,
        "text": suspect.description,
        "colour": _COLOURS.get(suspect.kind, _SUSPECT_COLOUR),
        "position": middle_of(suspect.place_voxels, first),
        "other": None if suspect.other_voxels is None else middle_of(suspect.other_voxels, first),
        "fragments": [str(fragment) for fragment in suspect.fragments],
    }


def middle_of(voxel: Triple | Sequence[int], first: Layer) -> list[float]:
    """Return the middle of a voxel in the coordinates of the viewer."""
    shifts = [offset / size for offset, size in zip(first.offset_nm, first.voxel_size_nm, strict=True)]
    return [at + 0.5 + shift for at, shift in zip(voxel, shifts, strict=True)][::-1]
