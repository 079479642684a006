"""Write a file once: of several processes, one writes it and the others read it. It is never replaced."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import yaml

from neuroseg.errors import NeurosegError

# Errors of file systems without hard links (exFAT, sshfs).
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def write_first(path: Path, text: str) -> bool:
    """Write a file if there is none, and return whether it was written.

    If several processes call this, exactly one writes the file, also on network disks. Readers never see part of it.
    """
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
    """As `write_first`, without hard links: for a moment, other processes can see the file without its content."""
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
    """Record `values` at `path` if there is no record yet, and return the recorded values.

    Raises NeurosegError if the file does not contain a mapping.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_first(path, yaml.safe_dump(dict(values), sort_keys=False))
    return recorded_at(path)


def recorded_at(path: Path) -> dict[str, str]:
    """Return the values that `first_recorded` recorded at `path`, or nothing if there is no record.

    Raises NeurosegError if the file does not contain a mapping.
    """
    try:
        found = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NeurosegError(f"{path} is damaged", hint=f"recompute the stage with --restart {path.parent.name}")
    return {str(key): str(value) for key, value in found.items()}
