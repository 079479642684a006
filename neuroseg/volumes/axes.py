"""Axis names in files and the user's options -> the dimensions of z, y, x, and the index that is read on the others.

Unknown, contradictory or ambiguous names are errors. The hint names the option that resolves them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from neuroseg.errors import InputError
from neuroseg.geometry import Triple
from neuroseg.volumes.lengths import listed, plain_text
from neuroseg.volumes.selection import Selection

Names = tuple[str, ...]
_LETTERS = {"channel": "c", "channels": "c", "time": "t"}
_OTHER_AXES = {"c": ("channel", "channels"), "t": ("time", "time points")}


@dataclass(frozen=True)
class Layout:
    """The stored dimensions of z, y and x, the index that is read on others, and the channel dimension, if kept."""

    spatial: Triple = (0, 1, 2)
    fixed: tuple[tuple[int, int], ...] = ()
    channel: int | None = None
    single: int | None = None  # the channel dimension, if `only` selected one channel

    def only(self, channel: int) -> Layout:
        """Return the layout of one channel. The array's channels must be kept."""
        assert self.channel is not None
        return Layout(self.spatial, (*self.fixed, (self.channel, channel)), single=self.channel)

    def of(self, values: Sequence[Any]) -> tuple[Any, Any, Any]:
        """Return the entries for z, y, x of a list with one entry per stored dimension."""
        z, y, x = (values[dimension] for dimension in self.spatial)
        return (z, y, x)

    def index(self, box: Sequence[Any], channels: Any = slice(None)) -> tuple[Any, ...]:
        """Return the index that reads a box (z, y, x), of `channels` if channels are kept."""
        chosen: dict[int, Any] = {**dict(self.fixed), **dict(zip(self.spatial, box, strict=True))}
        if self.channel is not None:
            chosen[self.channel] = channels
        return tuple(chosen[dimension] for dimension in range(len(chosen)))

    def arranged(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values that `index` reads as `([c,] z, y, x)`."""
        wanted = [*([] if self.channel is None else [self.channel]), *self.spatial]
        order = [sorted(wanted).index(dimension) for dimension in wanted]
        return values if order == sorted(order) else values.transpose(order)

    def stated(self) -> list[Any]:
        """Return the order and indices for an identity. Empty for stored order and first indices."""
        chosen = [[dimension, index] for dimension, index in self.fixed if index and dimension != self.single]
        return [] if not chosen and list(self.spatial) == sorted(self.spatial) else [list(self.spatial), chosen]


PLAIN = Layout()


def layout_of(
    path: str,
    shape: Sequence[int],
    sources: Sequence[tuple[str, Names]],
    selection: Selection,
    *,
    channels: bool = False,
) -> Layout:
    """Return the layout of a stored array of `shape`. Axes of `selection` override the names in its `sources`.

    Axes of size 1 are dropped. With `channels` the channel axis is kept, and 4D arrays without names are (c, z, y, x).
    Raises InputError for fewer than three dimensions, for names that are contradictory, unknown or do not match the
    shape, and if several channels or time points remain.
    """
    if len(shape) < 3:
        raise InputError(f"{path} is a {len(shape)}D array of shape {tuple(shape)}, expected a 3D array (z, y, x)")
    names = _chosen_names(path, shape, sources, selection, channels=channels)
    _require_used(path, names, selection)
    fixed = []
    for dimension, (name, size) in enumerate(zip(names, shape, strict=True)):
        if name in _OTHER_AXES and not (channels and name == "c"):
            asked = selection.channel if name == "c" else selection.time
            fixed.append((dimension, _index(path, name, size, asked)))
    z, y, x = (names.index(name) for name in "zyx")
    return Layout((z, y, x), tuple(fixed), names.index("c") if channels else None)


def _chosen_names(
    path: str, shape: Sequence[int], sources: Sequence[tuple[str, Names]], selection: Selection, *, channels: bool
) -> Names:
    needed = "czyx" if channels else "zyx"
    if selection.axes is not None:
        return _checked(path, shape, "--axes", tuple(selection.axes.lower()), needed)
    if channels:
        # Some arrays, including our own, name only the spatial axes.
        sources = [(source, ("c", *names) if len(names) == len(shape) - 1 else names) for source, names in sources]
    for source, names in sources[1:]:
        if names != sources[0][1]:
            raise InputError(
                f"{path} names its axes {_joined(sources[0][1])} in {sources[0][0]} but {_joined(names)} in {source}",
                hint=f"give the right axes, slowest first, for example --axes {needed}",
            )
    if sources:
        return _checked(path, shape, sources[0][0], sources[0][1], needed)
    if len(shape) == len(needed):
        return tuple(needed)
    raise InputError(
        f"{path} is a {len(shape)}D array of shape {tuple(shape)} without axis names, expected a 3D array (z, y, x)",
        hint=f"name the axes, slowest first, for example --axes {_example(shape)} (import, info, predict, run)",
    )


def _checked(path: str, shape: Sequence[int], source: str, names: Names, needed: str) -> Names:
    found = f"{path} of shape {tuple(shape)} has axes {_joined(names)} ({source})"
    hint = f"give one letter for each axis, slowest first, for example --axes {_example(shape)}"
    if len(names) != len(shape):
        raise InputError(f"{found}, but {len(shape)} dimensions", hint=hint)
    if len(set(names)) < len(names) or not set(names) <= set("tczyx") or not set(needed) <= set(names):
        optional = "t" if "c" in needed else "t and c"
        raise InputError(f"{found}, expected {', '.join(needed)}, optionally {optional}, each once", hint=hint)
    return names


def _example(shape: Sequence[int]) -> str:
    """Return likely axes for an array of `shape`."""
    return "tczyx"[-min(len(shape), 5) :]


def _joined(names: Names) -> str:
    return ("" if all(len(name) == 1 for name in names) else ",").join(names)


def _require_used(path: str, names: Names, selection: Selection) -> None:
    for axis, asked in (("c", selection.channel), ("t", selection.time)):
        if asked is not None and axis not in names:
            option = _OTHER_AXES[axis][0]
            raise InputError(
                f"{path} has axes {_joined(names)}, without a {option} axis, found --{option} {asked}",
                hint=f"omit --{option}",
            )
    if selection.series is not None:
        raise InputError(
            f"{path} is not a TIFF with several images, found --series {selection.series}", hint="omit --series"
        )


def _index(path: str, axis: str, size: int, asked: int | None) -> int:
    option, plural = _OTHER_AXES[axis]
    if asked is None and size > 1:
        raise InputError(
            f"{path} has {size} {plural}, expected one", hint=f"choose one with --{option} N (0 to {size - 1})"
        )
    if not 0 <= (asked or 0) < max(size, 1):
        raise InputError(f"{path} has {size} {plural} (0 to {size - 1}), found --{option} {asked}")
    return asked or 0


def named_axes(
    attributes: Mapping[str, Any], *, dimension_names: object = None, labels: Sequence[str] = ()
) -> list[tuple[str, Names]]:
    """Return each source of axis names and its names: attributes, zarr v3 metadata, HDF5 dimension labels.

    Sources without a real name are omitted.
    """
    found: list[tuple[str, list[Any] | None]] = [
        ("axis_names", _entries(attributes.get("axis_names"))),
        ("axes", _entries(attributes.get("axes"))),
        ("dimension_names", _entries(dimension_names)),
        ("_ARRAY_DIMENSIONS", _entries(attributes.get("_ARRAY_DIMENSIONS"))),
        ("axistags", _tagged(attributes.get("axistags"))),
        ("dimension labels", list(labels)),
    ]
    named = [(source, tuple(_letter(entry) for entry in entries)) for source, entries in found if entries]
    return [(source, names) for source, names in named if any(names) and not all(map(_is_placeholder, names))]


def _is_placeholder(name: str) -> bool:
    """Return whether a name is only a number, such as xarray's dim_0 and h5netcdf's phony_dim_0."""
    return re.fullmatch(r"(phony_)?dim_?\d+", name) is not None


def _entries(value: object) -> list[Any] | None:
    text = plain_text(value).strip()
    if text.isalpha():
        return list(text)
    return listed(value)


def _tagged(value: object) -> list[Any] | None:
    """Return the keys of vigra's axistags (JSON text)."""
    try:
        tags = json.loads(plain_text(value))["axes"]
        return [tag["key"] for tag in tags]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _letter(entry: object) -> str:
    """Return the letter of an axis. An unknown name is returned unchanged; an entry that is not a name gives ""."""
    if isinstance(entry, Mapping):
        entry = entry.get("name")
    name = plain_text(entry).strip().rstrip("^").lower()
    return _LETTERS.get(name, name)
