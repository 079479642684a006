"""Volume metadata: voxel size, offset and axes, read from any of the conventions in use, written as OME-NGFF 0.5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuroseg.errors import InputError
from neuroseg.geometry import Nanometres, Triple

_NANOMETRES_PER_UNIT = {
    "nanometer": 1.0, "nanometre": 1.0, "nm": 1.0, "angstrom": 0.1, "micrometer": 1e3, "micrometre": 1e3, "micron": 1e3,
    "um": 1e3, "µm": 1e3, "millimeter": 1e6, "millimetre": 1e6, "mm": 1e6,
}  # fmt: skip


@dataclass(frozen=True)
class Level:
    """One resolution of an OME-NGFF image: its path in the group, and per-axis scale and translation in nm.

    `scaled` is false where the image does not say how large its voxels are.
    """

    path: str
    axes: tuple[str, ...]
    scale_nm: tuple[float, ...]
    translation_nm: tuple[float, ...]
    scaled: bool


def ome_levels(attributes: Mapping[str, Any]) -> list[Level]:
    """Return the levels of an OME-NGFF 0.4 or 0.5 image, finest first; an empty list when it is not one.

    Raises InputError when the metadata do not follow the format.
    """
    ome = attributes.get("ome", attributes)
    multiscales = ome.get("multiscales") if isinstance(ome, Mapping) else None
    if not multiscales:
        return []
    try:
        return _levels(multiscales[0])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the OME-NGFF metadata are malformed ({type(error).__name__}: {error}); give the path of one array inside"
        ) from error


def _levels(image: Mapping[str, Any]) -> list[Level]:
    """Return the levels of one multiscale image."""
    axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in image.get("axes", [])]
    names = tuple(str(axis["name"]) for axis in axes)
    units = [_unit(axis.get("unit")) if axis.get("type", "space") == "space" else 1.0 for axis in axes]
    shared = image.get("coordinateTransformations", [])
    levels = []
    for dataset in image["datasets"]:
        scale, translation = [1.0] * len(axes), [0.0] * len(axes)
        for transformation in [*dataset.get("coordinateTransformations", []), *shared]:
            if transformation["type"] == "scale":
                scale = [a * b for a, b in zip(scale, transformation["scale"], strict=True)]
                translation = [a * b for a, b in zip(translation, transformation["scale"], strict=True)]
            elif transformation["type"] == "translation":
                translation = [a + b for a, b in zip(translation, transformation["translation"], strict=True)]
        levels.append(
            Level(
                str(dataset["path"]),
                names,
                tuple(s * u for s, u in zip(scale, units, strict=True)),
                tuple(t * u for t, u in zip(translation, units, strict=True)),
                any(t["type"] == "scale" for t in [*dataset.get("coordinateTransformations", []), *shared]),
            )
        )
    return levels


def plain_metadata(attributes: Mapping[str, Any], dimensions: int) -> tuple[Nanometres | None, Nanometres]:
    """Return voxel size (or None) and offset in nm from attributes in the manner of funlib.

    `voxel_size`, or the older `resolution`, and `offset`, all for z, y, x, in `units` (default nm). Arrays with a
    channel axis may list four values: the last three count.
    """
    scale = _plain_unit(attributes.get("units"))
    size = attributes.get("voxel_size", attributes.get("resolution"))
    offset = attributes.get("offset")
    return (
        None if size is None else _last_three(size, scale, "voxel_size"),
        (0.0, 0.0, 0.0) if offset is None else _last_three(offset, scale, "offset"),
    )


def ome_attributes(
    name: str, levels: Sequence[tuple[str, Triple]], voxel_size_nm: Nanometres, offset_nm: Nanometres, *, labels: bool
) -> dict[str, Any]:
    """Return the OME-NGFF 0.5 attributes of an image (or label image) with levels (path, downsampling factors).

    A coarser voxel's centre lies between the finer ones it was made of, so its translation moves by half of what it
    gained.
    """
    datasets = []
    for path, factors in levels:
        scale = [size * factor for size, factor in zip(voxel_size_nm, factors, strict=True)]
        shift = [o + (s - v) / 2 for o, s, v in zip(offset_nm, scale, voxel_size_nm, strict=True)]
        transformations = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
        datasets.append({"path": path, "coordinateTransformations": transformations})
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}
    if labels:
        ome["image-label"] = {"version": "0.5"}
    return {"ome": ome}


def array_attributes(voxel_size_nm: Nanometres, offset_nm: Nanometres) -> dict[str, Any]:
    """Return the attributes that funlib and its relatives read."""
    return {
        "voxel_size": list(voxel_size_nm),
        "offset": list(offset_nm),
        "axis_names": ["z", "y", "x"],
        "units": ["nm", "nm", "nm"],
    }


def _unit(unit: object) -> float:
    if unit is None:
        return 1.0
    if str(unit) not in _NANOMETRES_PER_UNIT:
        raise InputError(f"unknown length unit {unit!r} (known: {', '.join(_NANOMETRES_PER_UNIT)})")
    return _NANOMETRES_PER_UNIT[str(unit)]


def _plain_unit(units: object) -> float:
    if isinstance(units, Sequence) and not isinstance(units, str):
        spatial = [unit for unit in units if unit]
        units = spatial[-1] if spatial else None
    return _unit(units)


def _last_three(values: object, scale: float, what: str) -> Nanometres:
    try:
        z, y, x = (float(value) * scale for value in list(values)[-3:])  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise InputError(f"attribute {what} = {values!r} is not three numbers (z, y, x)") from error
    return (z, y, x)
