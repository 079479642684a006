"""Read the state files of a workspace: small YAML and JSON files that may be damaged.

    run.yaml  store.yaml  jobs.json  ledger/STAGE/identity.yaml  ->  their content, or None

An empty, truncated or foreign file gives None. The caller decides whether that is an error.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from neuroseg import __version__
from neuroseg.errors import InputError

# Errors of parsers for damaged content: wrong bytes, impossible dates, brackets nested too deep.
_UNREADABLE = (ValueError, RecursionError, yaml.YAMLError)


def mapping_in(path: Path) -> dict[str, Any] | None:
    """Return the mapping in a file, whose keys are strings. None if the file is missing or contains something else."""
    return _mapping(_parsed(path))


def read_mapping(path: Path) -> dict[str, Any] | None:
    """As `mapping_in`, but raise InputError with the system's reason if the file cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    return _mapping(_decoded(path, content))


def _mapping(found: Any) -> dict[str, Any] | None:
    return found if isinstance(found, dict) and all(isinstance(key, str) for key in found) else None


def entries_in(path: Path) -> list[dict[str, Any]] | None:
    """Return the list of mappings in a file. None if the file is missing or contains something else."""
    found = _parsed(path)
    return found if isinstance(found, list) and all(isinstance(entry, dict) for entry in found) else None


def _parsed(path: Path) -> Any:
    try:
        return _decoded(path, path.read_bytes())
    except OSError:
        return None


def _decoded(path: Path, content: bytes) -> Any:
    try:
        return yaml.safe_load(content) if path.suffix == ".yaml" else json.loads(content)
    except _UNREADABLE:
        return None


def require_version(path: Path, version: object) -> None:
    """Raise InputError if a newer version of neuroseg wrote a file: it may contain settings unknown to this version."""
    found, own = _numbers(version), _numbers(__version__)
    if found > own:
        raise InputError(
            f"{path} was written by neuroseg {version}, which is newer than this version, {__version__}",
            hint="pip install --upgrade neuroseg",
        )


def _numbers(version: object) -> list[int]:
    """Return the numbers of a version without trailing zeros: 1, 2 for `1.2.0rc1`."""
    found = re.match(r"\d+(\.\d+)*", version) if isinstance(version, str) else None
    numbers = [int(number) for number in found.group().split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers
