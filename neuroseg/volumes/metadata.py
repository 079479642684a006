"""Volume metadata: reads the levels of an OME-NGFF image, and creates the attributes of our own volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres, Triple
from neuroseg.volumes.axes import Names, named_axes
from neuroseg.volumes.description import Facts, description_of
from neuroseg.volumes.lengths import listed, number, plain_text
from neuroseg.volumes.placement import CENTRE, level_translation_nm
from neuroseg.volumes.selection import Selection

OFFSET_CONVENTION = "offset_convention"


@dataclass(frozen=True)
class Level:
    """One resolution level of an OME-NGFF image: its path in the group, and units, scale and translation per axis.

    `axes` is empty if the image names none. `scale` and `translation` are None if nothing states them. If only other
    levels state a translation, it is 0. `finest` is the scale of the first level.
    """

    path: str
    axes: Names
    units: tuple[str, ...]
    scale: object
    translation: object
    finest: object
    zero: str = ""

    def facts(self, path: str, shape: Sequence[int], names: Sequence[tuple[str, Names]] = ()) -> Facts:
        """Return the facts of the level's array. `names` are axis names that the array itself states."""
        sources = [*([("OME axes", self.axes)] if self.axes else []), *names]
        return Facts(
            path,
            tuple(shape),
            sources,
            self.scale,
            self.translation,
            list(self.units),
            CENTRE,
            self.finest,
            zero=self.zero,
        )

    def voxel_size_nm(self, path: str, selection: Selection) -> Nanometres | None:
        """Return the level's voxel size, or None if it is not known. Does not open the array."""
        axes = Selection(selection.axes)
        return description_of(self.facts(path, [1] * (len(self.axes or selection.axes or "zyx"))), axes).voxel_size_nm


def ome_levels(attributes: Mapping[str, Any]) -> list[Level]:
    """Return the levels of an OME-NGFF 0.4 or 0.5 image, finest first. An empty list if it is not an image.

    Raises InputError if the metadata do not follow the format.
    """
    ome = attributes.get("ome", attributes)
    multiscales = ome.get("multiscales") if isinstance(ome, Mapping) else None
    if not multiscales:
        return []
    try:
        return _levels(multiscales[0], str(attributes.get(OFFSET_CONVENTION, "")))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the OME-NGFF metadata are malformed ({type(error).__name__}: {error})",
            hint="give the path of one array inside the image",
        ) from error


def _levels(image: Mapping[str, Any], zero: str) -> list[Level]:
    """Return the levels of one multiscale image."""
    axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in image.get("axes", [])]
    names = dict(named_axes({"axes": [axis["name"] for axis in axes]})).get("axes", ())
    units = tuple(plain_text(axis.get("unit")) for axis in axes)
    shared = image.get("coordinateTransformations", [])
    read = [
        (str(dataset["path"]), *_combined([*dataset.get("coordinateTransformations", []), *shared], len(axes)))
        for dataset in image["datasets"]
    ]
    # In OME-NGFF a missing translation is 0. If no level states one, the position of the image is unknown.
    default = [0.0] * len(axes) if any(translation is not None for _, _, translation in read) else None
    return [
        Level(path, names, units, scale, default if translation is None else translation, read[0][1], zero)
        for path, scale, translation in read
    ]


def _combined(transformations: Sequence[Mapping[str, Any]], dimensions: int) -> tuple[object, object]:
    """Return the scale and translation of all transformations combined, each None if there is none.

    If a transformation cannot be read (another type, numbers in another file), return it in place of the scale, for the
    error message.
    """
    scale: list[float] | None = None
    translation: list[float] | None = None
    for transformation in transformations:
        kind = transformation["type"]
        if kind == "identity":
            continue
        values = [number(value) for value in listed(transformation.get(kind)) or []]
        numbers = [value for value in values if value is not None]
        if kind not in ("scale", "translation") or not values or len(numbers) < max(len(values), dimensions):
            return dict(transformation), None
        if kind == "translation":
            translation = [a + b for a, b in zip(translation or [0.0] * len(numbers), numbers, strict=True)]
            continue
        scale = [a * b for a, b in zip(scale or [1.0] * len(numbers), numbers, strict=True)]
        if translation is not None:
            translation = [a * b for a, b in zip(translation, numbers, strict=True)]
    return scale, translation


def ome_attributes(
    name: str,
    levels: Sequence[tuple[str, Triple]],
    voxel_size_nm: Nanometres,
    offset_nm: Nanometres,
    *,
    labels: bool,
    convention: str = CENTRE,
) -> dict[str, Any]:
    """Return the OME-NGFF 0.5 attributes of an image (or label image) with levels (path, downsampling factors).

    `convention` is the convention of `offset_nm`, or UNKNOWN if the offset is assumed. It is stored in an extra
    attribute, because OME-NGFF supports only centres (placement.py).
    """
    datasets = []
    for path, factors in levels:
        scale = [size * factor for size, factor in zip(voxel_size_nm, factors, strict=True)]
        shift = level_translation_nm(offset_nm, voxel_size_nm, scale)
        transformations = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
        datasets.append({"path": path, "coordinateTransformations": transformations})
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}
    if labels:
        ome["image-label"] = {"version": "0.5"}
    return {"ome": ome} if convention == CENTRE else {"ome": ome, OFFSET_CONVENTION: convention}


def array_attributes(voxel_size_nm: Nanometres, corner_nm: Nanometres, *, channels: bool = False) -> dict[str, Any]:
    """Return the attributes of an array `(z, y, x)`, or `(c, z, y, x)` with `channels`.

    funlib and related libraries read voxel size, offset (the corner of the first voxel), names and units. tensorstore
    and neuroglancer read `dimension_units`, one for each dimension.
    """
    return {
        "voxel_size": list(voxel_size_nm),
        "offset": list(corner_nm),
        "axis_names": ["c^"] * channels + ["z", "y", "x"],
        "units": ["nm", "nm", "nm"],
        "dimension_units": [""] * channels + [f"{edge:g} nm" for edge in voxel_size_nm],
    }
