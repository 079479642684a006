"""Who owns what lies on a server: a workspace's folder names the address of its artifacts, and they name the folder."""

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
    """Return the address of the artifacts of a workspace, None where they lie in its folder or no run ever began."""
    record = folder / STORE
    return _read(record)["artifacts"] if record.is_file() and (is_workspace(folder) or has_marks(folder)) else None


def _read(record: Path) -> Mapping[str, str]:
    """Return what a folder says of its artifacts on a server; raises InputError where that is damaged."""
    content = mapping_in(record)
    if content is None or not all(isinstance(content.get(key), str) for key in ("artifacts", "token")):
        raise InputError(
            f"{record} is damaged, which says on which server the artifacts lie; write two lines into it, `artifacts: "
            f"ADDRESS` and `token: TOKEN`, with the token that {STORE} at that address holds"
        )
    return content


def claim_artifacts(folder: Path, artifacts: RemotePath) -> None:
    """Have the folder name where its artifacts lie, and them name the folder: two ledgers of one place would disagree.

    Raises RunRefusedError when they are those of another folder, or something else lies there.
    """
    record, sign = folder / STORE, artifacts / STORE
    if not record.is_file() or _read(record)["artifacts"] != str(artifacts):
        publish_text(record, yaml.safe_dump({"artifacts": str(artifacts), "token": secrets.token_hex(8)}))
    own = {"token": _read(record)["token"], "folder": str(folder.resolve())}
    content = yaml.safe_dump(own).encode()
    try:
        if not sign.is_file() and artifacts.is_dir():
            raise RunRefusedError(
                f"{artifacts} is no workspace, but something lies there; choose another address with -o"
            )
        if sign.write_new(content):
            return
        owner = _owner(sign, own)
        if owner["token"] != own["token"] or _is_elsewhere(folder, owner):
            raise RunRefusedError(
                f"{artifacts} belongs to the workspace {owner['folder']}, not to {own['folder']}; go on there, "
                "choose another address with -o, or, if that folder is gone, remove what lies at the address"
            )
        if owner != own:
            sign.write(content)  # the folder was moved
    except BaseException:
        if not is_workspace(folder):
            record.unlink(missing_ok=True)
        raise


def _owner(sign: RemotePath, own: Mapping[str, str]) -> Mapping[str, str]:
    """Return which folder the artifacts belong to; raises RunRefusedError where that is damaged."""
    try:
        content = yaml.safe_load(sign.read_bytes())
        return {"token": str(content["token"]), "folder": str(content["folder"])}
    except (ValueError, TypeError, KeyError, RecursionError, yaml.YAMLError) as error:
        raise RunRefusedError(
            f"{sign} is damaged, which says whose artifacts these are; if they are those of {own['folder']}, write two "
            f"lines into it, `token: {own['token']}` and `folder: {own['folder']}`"
        ) from error


def _is_elsewhere(folder: Path, owner: Mapping[str, str]) -> bool:
    """Return whether the folder that made a claim is still there, and this one a copy of it."""
    other = Path(owner["folder"])
    record = other / STORE
    return record.is_file() and not other.samefile(folder) and _read(record)["token"] == owner["token"]
