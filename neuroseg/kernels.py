"""Compilation of numba kernels: at the first call, without Python's lock, and cached for later processes if possible.

numba is imported at the first call of a kernel, since this takes a third of a second, and the head rarely calls one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import Any

from neuroseg.caches import choose_kernel_folder

_SOURCES = Path(__file__).parent
_FOLDER = choose_kernel_folder(_SOURCES)


class Kernel:
    """A function that numba compiles. Other kernels may call it. `is_in_place`: see `compiled_in_place`."""

    def __init__(self, function: Callable[..., Any], *, is_in_place: bool = False) -> None:
        self._function, self._is_in_place = function, is_in_place
        update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        return self.dispatcher(*arguments)

    @cached_property
    def dispatcher(self) -> Any:
        """numba's object that compiles the function for the types of its arguments, and calls it."""
        from neuroseg.compiler import dispatcher_of

        is_default = str(_SOURCES / "__pycache__") == _FOLDER
        return dispatcher_of(
            self._function, *self.frozen(), _FOLDER, is_default=is_default, is_in_place=self._is_in_place
        )

    def frozen(self) -> tuple[list[str], list[str]]:
        """Return what the compiled code contains: the files of this kernel and of those that it calls, and constants.

        Constants are those that the kernels use from any file, with their values.
        """
        kernels, files, constants = {self}, set(), set()
        seen: set[Kernel] = set()
        while kernels - seen:
            kernel = (kernels - seen).pop()
            seen.add(kernel)
            code, names = kernel._function.__code__, kernel._function.__globals__
            files.add(code.co_filename)
            for name in set(code.co_names) & set(names):
                value = names[name]
                if isinstance(value, Kernel):
                    kernels.add(value)
                elif isinstance(value, bool | int | float | tuple):
                    constants.add(f"{name} = {value!r}")
                elif hasattr(value, "tobytes"):  # numbers and arrays of numpy
                    constants.add(f"{name} = {value.tobytes()!r}")
        return sorted(files), sorted(constants)

    @property
    def _numba_type_(self) -> Any:
        """The type of this kernel in kernels that call it. numba looks for an attribute of this name."""
        return self.dispatcher._numba_type_


def compiled(function: Callable[..., Any]) -> Kernel:
    """Return the function as a numba kernel, compiled at the first call for the types of its arguments."""
    return Kernel(function)


def compiled_in_place(function: Callable[..., Any]) -> Kernel:
    """Return the function as a kernel that neither creates nor returns arrays.

    For such a kernel, numba does not count references to arrays. That is a third of the time of small kernels.
    """
    return Kernel(function, is_in_place=True)
