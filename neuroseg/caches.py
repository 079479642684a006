"""Folders of caches: numba's compiled kernels and matplotlib's list of fonts.

If the user has no writable home (a container, an exhausted quota), the caches lie in a private folder in the temporary
folder. Workers inherit the choice through environment variables.
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
_OURS = "NEUROSEG_CHOSEN_"  # prefix of the variables that mark a folder as chosen by neuroseg, not by the user
# With an exhausted quota you can create files, but cannot write to them.
_TEST_BYTES = 1 << 16


def choose_kernel_folder(sources: Path) -> str | None:
    """Return the folder for compiled kernels, or None if no folder is writable.

    The first writable one of: NUMBA_CACHE_DIR, the folder of the sources, the user's cache, a private temporary folder.
    The environment passes it to workers.
    """
    if folder := _folder_from_environment(_NUMBA):
        return folder
    default = sources / "__pycache__"
    if is_usable(default):
        _export(_NUMBA, None)  # numba's default
        return str(default)
    cache = _user_folder("XDG_CACHE_HOME", ".cache")
    return _first_usable(_NUMBA, [cache / "numba"] if cache else [], "kernels")


def choose_figure_folder() -> str | None:
    """Return the folder for matplotlib's caches, or None if no folder is writable. See `choose_kernel_folder`."""
    if folder := _folder_from_environment(_MATPLOTLIB):
        return folder
    folders = [_user_folder("XDG_CONFIG_HOME", ".config"), _user_folder("XDG_CACHE_HOME", ".cache")]
    if all(folder is not None and is_usable(folder / "matplotlib") for folder in folders):
        _export(_MATPLOTLIB, None)
        return str(folders[0])
    return _first_usable(_MATPLOTLIB, [], "matplotlib")


def _folder_from_environment(variable: str) -> str | None:
    """Return the folder in an environment variable, or None if it is not usable.

    If neuroseg chose it, perhaps on another machine, it is used only if it is private on this machine.
    """
    folder = os.environ.get(variable)
    if not folder or (folder == os.environ.get(_OURS + variable) and not _is_private(Path(folder).parent)):
        return None
    return folder if is_usable(Path(folder)) else None


def _export(variable: str, folder: str | None) -> None:
    """Set the environment variable to `folder` and mark it as chosen by neuroseg. None unsets both."""
    for name in (variable, _OURS + variable):
        if folder is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = folder


def _first_usable(variable: str, candidates: Sequence[Path], name: str) -> str | None:
    """Return the first usable candidate, else a private folder. Export it to the environment."""
    usable = next(filter(is_usable, candidates), None) or private_folder(name)
    folder = None if usable is None else str(usable)
    _export(variable, folder)
    return folder


def is_usable(folder: Path) -> bool:
    """Return whether files can be written in a folder: create it if it is missing, then write a test file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        test_file = folder / f".tried-{secrets.token_hex(4)}"
        try:
            test_file.write_bytes(bytes(_TEST_BYTES))
        finally:
            test_file.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _user_folder(variable: str, name: str) -> Path | None:
    """Return a folder of the user by the XDG rules, or None if the home is unknown or relative."""
    folder = Path(os.environ.get(variable) or os.path.expanduser(f"~/{name}"))
    return folder if folder.is_absolute() else None


def private_folder(name: str) -> Path | None:
    """Return a folder in the temporary folder that only this user can enter, or None if none can be created.

    Code is loaded from it. So if another user owns the usual folder or can enter it, a new folder is created. It is
    removed when this process ends.
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
        state = folder.lstat()  # do not follow a link
    except OSError:
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o077


def _remove(folder: Path, creator: int) -> None:
    """Remove a folder when the process that created it ends. Its forks do not remove it."""
    if os.getpid() == creator:
        shutil.rmtree(folder, ignore_errors=True)
