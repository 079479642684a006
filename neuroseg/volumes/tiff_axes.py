"""Axes of a TIFF: the file's description (t, c, z, y, x) and the user's options -> the position of each section.

Axis names are tifffile's: Q and I are unnamed pages, S the samples of a page.
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
    """The position of sections in an image of `shape`: along axis `z` (None: one section), at `fixed` on other axes."""

    shape: tuple[int, ...]
    z: int | None
    y: int
    x: int
    fixed: tuple[int, ...]

    @property
    def sections(self) -> int:
        """The number of sections."""
        return 1 if self.z is None else self.shape[self.z]

    @property
    def transposed(self) -> bool:
        """Whether a section is stored as (x, y) and must be transposed."""
        return self.x < self.y

    def place(self, section: int) -> tuple[int | slice, ...]:
        """Return the index of a section in the image. It covers y and x."""
        whole = (self.y, self.x)
        return tuple(
            slice(None) if axis in whole else section if axis == self.z else index
            for axis, index in enumerate(self.fixed)
        )


def arranged(axes: str, shape: Sequence[int], selection: Selection, name: str) -> Arrangement:
    """Return the position of an image's sections, from its axes and the user's options. Options override the file.

    Raises InputError if several channels, time points or unnamed axes remain, or if an option names a missing axis. The
    message lists the axes found, the hint the options that choose among them.
    """
    names = axes.upper() if selection.axes is None else _named(axes, shape, selection.axes, name)
    for axis in "YX":
        if names.count(axis) != 1:
            raise InputError(
                f"{name} has {names.count(axis) or 'no'} {axis.lower()} {'axes' if names.count(axis) else 'axis'} "
                f"({described(names, shape)}), expected one",
                hint="name all axes, one letter each of t, c, z, y, x, with --axes",
            )
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
        raise _several_volumes(names, shape, open_axes, z, name)
    return Arrangement(tuple(shape), z, names.index("Y"), names.index("X"), tuple(fixed))


def described(axes: str, shape: Sequence[int]) -> str:
    """Return axes and sizes as text: `z 6, c 2, y 32, x 40`."""
    return ", ".join(f"{_NAMES.get(axis, axis.lower())} {size}" for axis, size in zip(axes, shape, strict=True))


def _named(axes: str, shape: Sequence[int], option: str, name: str) -> str:
    """Return the axes that the user names. Raises InputError unless there is one letter for each axis."""
    names = option.upper()
    if set(names) - set("TCZYX") or len(set(names)) != len(names):
        raise InputError(
            f"--axes {option} is not a list of axes", hint="use one letter each of t, c, z, y, x, such as --axes zcyx"
        )
    if len(names) != len(axes):
        raise InputError(
            f"--axes {option} names {len(names)} axes, but {name} has {len(axes)} ({described(axes, shape)})",
            hint=f"give {len(axes)} letters of t, c, z, y, x, slowest axis first",
        )
    return names


def _section_axis(names: str, shape: Sequence[int], name: str) -> int | None:
    """Return the axis of the sections: z, or else the only unnamed axis. None if there is neither."""
    if "Z" in names:
        return names.index("Z")
    unnamed = [axis for axis, size in enumerate(shape) if names[axis] in _UNNAMED and size > 1]
    if len(unnamed) > 1:
        raise InputError(
            f"{name} has {len(unnamed)} axes without a name ({described(names, shape)})",
            hint="name all axes, slowest first, for example --axes zcyx",
        )
    return unnamed[0] if unnamed else None


def _choose(option: str, value: int | None, names: str, shape: Sequence[int], fixed: list[int], name: str) -> None:
    """Set the index along the axis that `--option value` chooses. Raises InputError if there is no such axis or index.

    An image with both channels and samples is also an InputError.
    """
    if value is None:
        return
    axes = [axis for axis, size in enumerate(shape) if _CHOSEN_BY.get(names[axis]) == option and size > 1]
    if len(axes) > 1:
        raise InputError(
            f"{name} has both channels and samples ({described(names, shape)}), expected one of them",
            hint="split its channels into separate files",
        )
    size = shape[axes[0]] if axes else 1
    if not 0 <= value < size:
        only = "time point" if option == "time" else option
        expected = f"expected 0 to {size - 1}" if axes else f"which has only one {only}"
        raise InputError(
            f"--{option} {value} is not in {name} ({described(names, shape)}), {expected}",
            hint="" if axes else f"omit --{option}",
        )
    if axes:
        fixed[axes[0]] = value


def _several_volumes(names: str, shape: Sequence[int], axes: Sequence[int], z: int | None, name: str) -> InputError:
    """Return the error for a file with more than one volume. The hint lists the options that choose one."""
    options = dict.fromkeys(_CHOSEN_BY.get(names[axis], "") for axis in axes)
    sizes = {_CHOSEN_BY.get(names[axis], ""): shape[axis] for axis in axes}
    ways = [f"choose one with --{option} N (0 to {sizes[option] - 1})" for option in options if option]
    if "" in options:
        ways = ["name all axes, one letter each of t, c, z, y, x, with --axes"]
    elif z is None and len(axes) == 1:
        letters = "".join("z" if axis == axes[0] else letter.lower() for axis, letter in enumerate(names))
        axis_name = _NAMES.get(names[axes[0]], names[axes[0]].lower())
        ways.append(f"if the axis {axis_name} counts sections, add --axes {letters}")
    return InputError(
        f"{name} contains more than one volume ({described(names, shape)}), expected one", hint="; ".join(ways)
    )
