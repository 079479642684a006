"""Ownership of artifacts on a server.

The local folder of a workspace records the address of its artifacts. The artifacts record that folder.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

import yaml

from neuroseg.errors import InputError, RunRefusedError
from neuroseg.storage.naming import STORE, has_marks, is_workspace
from neuroseg.storage.publish import publish_text
from neuroseg.storage.remote_path import RemotePath
from neuroseg.storage.state import mapping_in


def stored_at(folder: Path) -> str | None:
    """Return the address of a workspace's artifacts. None if they lie in its folder, or if no run has begun."""
    record = folder / STORE
    return _read(record)["artifacts"] if record.is_file() and (is_workspace(folder) or has_marks(folder)) else None


def _read(record: Path) -> Mapping[str, str]:
    """Return the address and token of a folder's artifacts on a server. Raises InputError if the record is damaged."""
    content = mapping_in(record)
    if content is None or not all(isinstance(content.get(key), str) for key in ("artifacts", "token")):
        raise InputError(
            f"{record} is damaged; it holds the address of the artifacts on the server",
            hint="replace its content with two lines, `artifacts: ADDRESS` and `token: TOKEN`; copy the token from "
            f"{STORE} at that address",
        )
    return content


def claim_artifacts(folder: Path, artifacts: RemotePath) -> None:
    """Record the address of the artifacts in the folder, and the folder next to the artifacts.

    Without this, two folders with different ledgers could write to the same address. Raises RunRefusedError if the
    artifacts belong to another folder, or if the address holds something else.
    """
    record, owner_record = folder / STORE, artifacts / STORE
    if not record.is_file() or _read(record)["artifacts"] != str(artifacts):
        publish_text(record, yaml.safe_dump({"artifacts": str(artifacts), "token": secrets.token_hex(8)}))
    own = {"token": _read(record)["token"], "folder": str(folder.resolve())}
    content = yaml.safe_dump(own).encode()
    try:
        if not owner_record.is_file() and artifacts.is_dir():
            raise RunRefusedError(
                f"{artifacts} is not empty, and it is not a workspace", hint="choose another address with -o"
            )
        if owner_record.write_new(content):
            return
        owner = _owner(owner_record, own)
        if owner["token"] != own["token"] or _is_copy(folder, owner):
            raise RunRefusedError(
                f"{artifacts} belongs to the workspace {owner['folder']}, not to {own['folder']}",
                hint="continue in that folder, or choose another address with -o; if that folder no longer exists, "
                "remove the objects at the address",
            )
        if owner != own:
            owner_record.write(content)  # the folder was moved
    except BaseException:
        if not is_workspace(folder):
            record.unlink(missing_ok=True)
        raise


def _owner(owner_record: RemotePath, own: Mapping[str, str]) -> Mapping[str, str]:
    """Return token and folder of the artifacts' owner. Raises RunRefusedError if the record is damaged."""
    try:
        content = yaml.safe_load(owner_record.read_bytes())
        return {"token": str(content["token"]), "folder": str(content["folder"])}
    except (ValueError, TypeError, KeyError, RecursionError, yaml.YAMLError) as error:
        raise RunRefusedError(
            f"{owner_record} is damaged; it names the workspace that these artifacts belong to",
            hint=f"if they belong to {own['folder']}, replace its content with two lines, `token: {own['token']}` and "
            f"`folder: {own['folder']}`",
        ) from error


def _is_copy(folder: Path, owner: Mapping[str, str]) -> bool:
    """Return whether the owner's folder still exists and `folder` is a copy of it."""
    other = Path(owner["folder"])
    record = other / STORE
    return record.is_file() and not other.samefile(folder) and _read(record)["token"] == owner["token"]
