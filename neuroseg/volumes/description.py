"""The metadata of an array and the user's options -> its axes, voxel size and offset. All volumes are opened this way.

Options override the file. What cannot be read with certainty is unknown: the user must give the voxel size, and an
offset is never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres
from neuroseg.volumes.axes import Layout, Names, layout_of
from neuroseg.volumes.lengths import listed, nanometres_per, number, plain_text
from neuroseg.volumes.placement import CENTRE, CORNER, UNKNOWN
from neuroseg.volumes.selection import Selection

# Attributes that state a voxel size, and their unit if the name includes it (ilastik, PlantSeg).
_SIZES = (("voxel_size", None), ("resolution", None), ("element_size_um", "um"))


@dataclass(frozen=True)
class Facts:
    """The metadata of one array, unchanged: entries per axis in stored order, for the spatial axes or for all axes.

    `scale`, `offset` and `units` are None if the file does not state them.
    """

    path: str
    shape: tuple[int, ...]
    names: Sequence[tuple[str, Names]] = ()
    scale: object = None
    offset: object = None
    units: object = None
    convention: str = CORNER
    finest: object = None  # the scale of the pyramid's finest level
    scale_name: str = "the OME-NGFF metadata are malformed: scale"
    zero: str = ""  # an attribute of our own images: the convention of their source, or UNKNOWN


@dataclass(frozen=True)
class Description:
    """How to read an array. `no_size_reason` explains a missing voxel size. Unless `placed`, the offset is 0.

    `corner_nm` is the offset as plain arrays state it (placement.py).
    """

    layout: Layout
    voxel_size_nm: Nanometres | None
    no_size_reason: str = ""
    offset_nm: Nanometres = (0.0, 0.0, 0.0)
    corner_nm: Nanometres = (0.0, 0.0, 0.0)
    placed: bool = False
    convention: str = CORNER


def plain_facts(path: str, shape: Sequence[int], names: Sequence[tuple[str, Names]], of: Mapping[str, Any]) -> Facts:
    """Return the facts of an array with attributes as in funlib: voxel_size or resolution, offset, units."""
    name, own_unit = next(((name, unit) for name, unit in _SIZES if of.get(name) is not None), _SIZES[0])
    units = of.get("units") if own_unit is None else own_unit
    # Without units the numbers are nm: CREMI and many later datasets state none.
    units = "nm" if units is None else units
    return Facts(path, tuple(shape), names, of.get(name), of.get("offset"), units, scale_name=f"attribute {name}")


def description_of(
    facts: Facts, selection: Selection, voxel_size_nm: Nanometres | None = None, *, channels: bool = False
) -> Description:
    """Return the description of an array. `voxel_size_nm` (z, y, x) overrides the file's voxel size.

    Raises InputError for ambiguous axes (axes.py), and for a stated voxel size that is not positive.
    """
    layout = layout_of(facts.path, facts.shape, facts.names, selection, channels=channels)
    factors, why = _factors(facts, layout)
    size = voxel_size_nm
    if size is None and facts.scale is not None:
        stated = _spatial(facts.scale, layout)
        if stated is None:
            why = f"{facts.scale_name} = {_shown(facts.scale)} is not three numbers"
        elif not all(0 < edge < math.inf for edge in stated):
            raise InputError(
                f"{facts.path} has voxel size {stated}, expected three positive numbers",
                hint="give the right size in nm: --voxel-size Z Y X",
            )
        elif factors is not None:
            size = _scaled(stated, factors)
    return _placed(facts, Description(layout, size, why if size is None else ""), factors)


def _placed(facts: Facts, known: Description, factors: Nanometres | None) -> Description:
    """Return a description with the offset that the facts state, if it is certain."""
    offset = None if facts.offset is None else _spatial(facts.offset, known.layout)
    if offset is None or factors is None or facts.zero == UNKNOWN or not all(map(math.isfinite, offset)):
        return known
    offset = corner = _scaled(offset, factors)
    finest = _spatial(facts.finest, known.layout)
    if facts.convention == CENTRE and known.voxel_size_nm is not None and finest is not None:
        sizes = zip(offset, known.voxel_size_nm, _scaled(finest, factors), strict=True)
        z, y, x = (o - (s - f) / 2 for o, s, f in sizes)
        corner = (z, y, x)
    placed = replace(known, corner_nm=corner, placed=True)
    if facts.zero == CORNER:
        return replace(placed, offset_nm=corner, convention=CORNER)
    return replace(placed, offset_nm=offset, convention=facts.convention)


def _factors(facts: Facts, layout: Layout) -> tuple[Nanometres | None, str]:
    """Return the nanometres per unit of z, y, x, or None and the reason why they are unknown."""
    text = plain_text(facts.units).strip()
    entries = [text] * 3 if nanometres_per(text) is not None else listed(facts.units) or [text]
    if len(entries) == 1:
        entries = entries * 3
    units = _entries_of_space(entries, layout)
    if units is None:
        return None, f"its units {_shown(facts.units)} are not three units"
    factors = [nanometres_per(unit) for unit in units]
    for unit, factor in zip(units, factors, strict=True):
        if factor is None:
            return None, f"its unit {unit!r} is not a known length" if unit else "it states no unit of length"
    z, y, x = (float(factor or 0) for factor in factors)
    return (z, y, x), ""


def _spatial(values: object, layout: Layout) -> Nanometres | None:
    """Return the numbers for z, y, x. None unless there is one number per spatial axis, or one per stored axis."""
    entries = _entries_of_space(listed(values), layout)
    if entries is None:
        return None
    z, y, x = (number(entry) for entry in entries)
    return None if z is None or y is None or x is None else (z, y, x)


def _entries_of_space(entries: Sequence[Any] | None, layout: Layout) -> tuple[Any, Any, Any] | None:
    if entries is None:
        return None
    dimensions = 3 + len(layout.fixed) + (layout.channel is not None)
    if len(entries) == dimensions:
        return layout.of(entries)
    if len(entries) == 3:
        stored = sorted(layout.spatial)
        z, y, x = (entries[stored.index(dimension)] for dimension in layout.spatial)
        return (z, y, x)
    return None


def _scaled(values: Sequence[float], factors: Sequence[float]) -> Nanometres:
    z, y, x = (value * factor for value, factor in zip(values, factors, strict=True))
    return (z, y, x)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
