"""Files that the first of several processes writes, and that the others find, whole: nobody replaces them."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import yaml

from neuroseg.errors import NeurosegError

# A disk that knows no second name for a file (exFAT, sshfs).
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def write_first(path: Path, text: str) -> bool:
    """Write a file unless there is one; returns whether it did. Of several processes one does, on network disks too."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        aside.write_text(text)
        os.link(aside, path)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _created(path, text)
    finally:
        aside.unlink(missing_ok=True)


def _created(path: Path, text: str) -> bool:
    """Write a file unless there is one, where it can be seen for a moment before its content is there."""
    try:
        with path.open("x") as file:
            file.write(text)
        return True
    except FileExistsError:
        return False
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def first_recorded(path: Path, values: Mapping[str, str]) -> dict[str, str]:
    """Return the values that the first caller recorded at `path`, this one's where there are none yet.

    Raises NeurosegError when the file holds something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if write_first(path, yaml.safe_dump(dict(values), sort_keys=False)):
        return dict(values)
    try:
        found = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NeurosegError(f"{path} is damaged; remove its stage's results with --restart {path.parent.name}")
    return {str(key): str(value) for key, value in found.items()}
