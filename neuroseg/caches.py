"""Folders for what is made again where it is missing: compiled kernels, matplotlib's list of fonts.

Where a user has no home that can be written to (another user's installation, a container, a quota that is used up),
they lie in a private folder of the temporary one. Workers inherit the choice through the environment.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

_NUMBA, _MATPLOTLIB = "NUMBA_CACHE_DIR", "MPLCONFIGDIR"
_OURS = "NEUROSEG_CHOSEN_"
# A quota that is used up lets files be made, but nothing be written to them.
_TRIED_BYTES = 1 << 16


def choose_kernel_folder(sources: Path) -> str | None:
    """Return where compiled kernels are kept: what is set, else beside their sources, in the user's cache, or a
    private temporary folder; None where nothing can be written at all. The environment names it for workers.
    """
    if named := _named(_NUMBA):
        return named
    beside = sources / "__pycache__"
    if is_usable(beside):
        _name(_NUMBA, None)  # numba's own choice
        return str(beside)
    cache = _user_folder("XDG_CACHE_HOME", ".cache")
    return _chosen(_NUMBA, [cache / "numba"] if cache else [], "kernels")


def choose_figure_folder() -> str | None:
    """Return where matplotlib keeps its caches, as `choose_kernel_folder` does for kernels."""
    if named := _named(_MATPLOTLIB):
        return named
    folders = [_user_folder("XDG_CONFIG_HOME", ".config"), _user_folder("XDG_CACHE_HOME", ".cache")]
    if all(folder is not None and is_usable(folder / "matplotlib") for folder in folders):
        _name(_MATPLOTLIB, None)
        return str(folders[0])
    return _chosen(_MATPLOTLIB, [], "matplotlib")


def _named(variable: str) -> str | None:
    """Return the folder that the environment names where it can be used.

    One that a process of ours chose, perhaps on another machine, is chosen anew unless it is private here.
    """
    named = os.environ.get(variable)
    if not named or (named == os.environ.get(_OURS + variable) and not _is_private(Path(named).parent)):
        return None
    return named if is_usable(Path(named)) else None


def _name(variable: str, folder: str | None) -> None:
    """Name a folder, or none, in the environment, and that it was chosen here."""
    for name in (variable, _OURS + variable):
        if folder is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = folder


def _chosen(variable: str, candidates: Sequence[Path], name: str) -> str | None:
    """Return the first candidate that can be used, else a private folder, and name it in the environment."""
    usable = next(filter(is_usable, candidates), None) or private_folder(name)
    folder = None if usable is None else str(usable)
    _name(variable, folder)
    return folder


def is_usable(folder: Path) -> bool:
    """Return whether files can be made and written in a folder, which is made where it is missing: it is tried."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tried = folder / f".tried-{secrets.token_hex(4)}"
        try:
            tried.write_bytes(bytes(_TRIED_BYTES))
        finally:
            tried.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _user_folder(variable: str, name: str) -> Path | None:
    """Return a folder of the user's by the XDG rules; None where there is no home, or a relative one."""
    folder = Path(os.environ.get(variable) or os.path.expanduser(f"~/{name}"))
    return folder if folder.is_absolute() else None


def private_folder(name: str) -> Path | None:
    """Return a folder below the temporary one that no other user can write to or has made; None where none can be.

    Code is loaded from it. So one that is not this user's, or that others may enter, is not used: a new one takes its
    place, which is removed in the end.
    """
    try:
        parent = Path(tempfile.gettempdir()) / f"neuroseg-{os.getuid()}"
        with contextlib.suppress(FileExistsError):
            parent.mkdir(mode=0o700)
        if not _is_private(parent):
            parent = Path(tempfile.mkdtemp(prefix="neuroseg-"))
            atexit.register(_remove, parent, os.getpid())
    except OSError:
        return None
    return parent / name if is_usable(parent / name) else None


def _is_private(folder: Path) -> bool:
    try:
        state = folder.lstat()  # not where a link leads to
    except OSError:
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o077


def _remove(folder: Path, maker: int) -> None:
    """Remove a folder as its maker ends; forks of it leave it."""
    if os.getpid() == maker:
        shutil.rmtree(folder, ignore_errors=True)
