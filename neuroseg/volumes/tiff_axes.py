"""Axes of a TIFF: its description of (t, c, z, y, x) and the user's options -> where each section lies.

Names of axes are tifffile's: Q and I are pages that the file does not name, S the samples of a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuroseg.errors import InputError
from neuroseg.volumes.selection import Selection

_UNNAMED = "QI"
_CHOSEN_BY = {"C": "channel", "S": "channel", "T": "time"}
_NAMES = {"Q": "unnamed", "I": "unnamed", "S": "samples"}


@dataclass(frozen=True)
class Arrangement:
    """Where sections lie in an image of `shape`: along axis `z` (None: there is one section), at `fixed` elsewhere."""

    shape: tuple[int, ...]
    z: int | None
    y: int
    x: int
    fixed: tuple[int, ...]

    @property
    def sections(self) -> int:
        """How many sections there are."""
        return 1 if self.z is None else self.shape[self.z]

    @property
    def transposed(self) -> bool:
        """Whether a section lies as (x, y) and must be turned."""
        return self.x < self.y

    def place(self, section: int) -> tuple[int | slice, ...]:
        """Return the index of a section in the image: whole along y and x."""
        whole = (self.y, self.x)
        return tuple(
            slice(None) if axis in whole else section if axis == self.z else index
            for axis, index in enumerate(self.fixed)
        )


def arranged(axes: str, shape: Sequence[int], selection: Selection, name: str) -> Arrangement:
    """Return where the sections of an image lie, from its axes and the options of the user, which win.

    Raises InputError, with the axes found and the options that choose, where more than one channel, time point or
    unnamed axis is left, or where an option is for an axis that is not there.
    """
    names = axes.upper() if selection.axes is None else _named(axes, shape, selection.axes, name)
    for axis in "YX":
        if names.count(axis) != 1:
            raise InputError(f"{name} has no single axis {axis.lower()} ({described(names, shape)}); name all: --axes")
    z = _section_axis(names, shape, name)
    fixed = [0] * len(names)
    for option in ("channel", "time"):
        _choose(option, getattr(selection, option), names, shape, fixed, name)
    chosen = {option for option in ("channel", "time") if getattr(selection, option) is not None}
    open_axes = [
        axis for axis, size in enumerate(shape)
        if size > 1 and axis != z and names[axis] not in "YX" and _CHOSEN_BY.get(names[axis]) not in chosen
    ]  # fmt: skip
    if open_axes:
        raise InputError(_left_open(names, shape, open_axes, z, name))
    return Arrangement(tuple(shape), z, names.index("Y"), names.index("X"), tuple(fixed))


def described(axes: str, shape: Sequence[int]) -> str:
    """Return axes and sizes as text: `z 6, c 2, y 32, x 40`."""
    return ", ".join(f"{_NAMES.get(axis, axis.lower())} {size}" for axis, size in zip(axes, shape, strict=True))


def _named(axes: str, shape: Sequence[int], option: str, name: str) -> str:
    """Return the axes as the user names them; raises InputError unless there is one letter for each."""
    names = option.upper()
    if set(names) - set("TCZYX") or len(set(names)) != len(names):
        raise InputError(f"--axes {option} is not understood; expected one letter each of t, c, z, y, x, such as zcyx")
    if len(names) != len(axes):
        raise InputError(
            f"--axes {option} names {len(names)} axes, but {name} has {len(axes)} ({described(axes, shape)})"
        )
    return names


def _section_axis(names: str, shape: Sequence[int], name: str) -> int | None:
    """Return the axis along which sections lie: z, or else the one axis that the file does not name."""
    if "Z" in names:
        return names.index("Z")
    unnamed = [axis for axis, size in enumerate(shape) if names[axis] in _UNNAMED and size > 1]
    if len(unnamed) > 1:
        raise InputError(
            f"{name} has {len(unnamed)} axes without a name ({described(names, shape)}); name all axes from first to "
            "last, for example --axes zcyx"
        )
    return unnamed[0] if unnamed else None


def _choose(option: str, value: int | None, names: str, shape: Sequence[int], fixed: list[int], name: str) -> None:
    """Set the index along the axis that `--option value` chooses; raises InputError where there is none or several."""
    if value is None:
        return
    axes = [axis for axis, size in enumerate(shape) if _CHOSEN_BY.get(names[axis]) == option and size > 1]
    if len(axes) > 1:
        raise InputError(f"{name} has both channels and samples ({described(names, shape)}); split its channels first")
    size = shape[axes[0]] if axes else 1
    if not 0 <= value < size:
        expected = f"0 to {size - 1}" if axes else f"no --{option}, for there is one"
        raise InputError(f"--{option} {value} is not in {name} ({described(names, shape)}); expected {expected}")
    if axes:
        fixed[axes[0]] = value


def _left_open(names: str, shape: Sequence[int], axes: Sequence[int], z: int | None, name: str) -> str:
    """Return what the user may give where more than one volume is left."""
    options = dict.fromkeys(_CHOSEN_BY.get(names[axis], "") for axis in axes)
    sizes = {_CHOSEN_BY.get(names[axis], ""): shape[axis] for axis in axes}
    ways = [f"choose one with --{option} N (0 to {sizes[option] - 1})" for option in options if option]
    if "" in options:
        ways = ["name all axes, one letter each of t, c, z, y, x, with --axes"]
    elif z is None and len(axes) == 1:
        letters = "".join("z" if axis == axes[0] else letter.lower() for axis, letter in enumerate(names))
        ways.append(
            f"if axis {_NAMES.get(names[axes[0]], names[axes[0]].lower())} is the sections, add --axes {letters}"
        )
    return f"{name} holds more than one volume ({described(names, shape)}); {'; '.join(ways)}"
