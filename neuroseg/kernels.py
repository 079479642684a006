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
    """A function that numba compiles. Other kernels may call it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        return self.dispatcher(*arguments)

    @cached_property
    def dispatcher(self) -> Any:
        """numba's object that compiles the function for the types of its arguments, and calls it."""
        from neuroseg.compiler import dispatcher_of

        is_default = str(_SOURCES / "__pycache__") == _FOLDER
        return dispatcher_of(self._function, self.sources(), _FOLDER, is_default=is_default)

    def sources(self) -> frozenset[str]:
        """Return the source files of this kernel and of all kernels that it calls."""
        kernels, found = [self], set()
        while kernels:
            function = kernels.pop()._function
            if function not in found:
                found.add(function)
                named = (function.__globals__.get(name) for name in function.__code__.co_names)
                kernels += [value for value in named if isinstance(value, Kernel)]
        return frozenset(function.__code__.co_filename for function in found)

    @property
    def _numba_type_(self) -> Any:
        """The type of this kernel in kernels that call it. numba looks for an attribute of this name."""
        return self.dispatcher._numba_type_


def compiled(function: Callable[..., Any]) -> Kernel:
    """Return the function as a numba kernel, compiled at the first call for the types of its arguments."""
    return Kernel(function)
