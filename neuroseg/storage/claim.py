"""Who owns what lies on a server: a workspace's folder names the address of its artifacts, and they name the folder."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

import yaml

from neuroseg.configuration import read_yaml
from neuroseg.errors import RunRefusedError
from neuroseg.storage.naming import STORE, is_workspace
from neuroseg.storage.publish import publish_text
from neuroseg.storage.remote_path import RemotePath


def stored_at(folder: Path) -> str | None:
    """Return the address of the artifacts of a workspace, None where they lie in its folder or no run ever began."""
    record = folder / STORE
    return str(read_yaml(record)["artifacts"]) if record.is_file() and is_workspace(folder) else None


def claim_artifacts(folder: Path, artifacts: RemotePath) -> None:
    """Have the folder name where its artifacts lie, and them name the folder: two ledgers of one place would disagree.

    Raises RunRefusedError when they are those of another folder, or something else lies there.
    """
    record, sign = folder / STORE, artifacts / STORE
    if not record.is_file() or read_yaml(record)["artifacts"] != str(artifacts):
        publish_text(record, yaml.safe_dump({"artifacts": str(artifacts), "token": secrets.token_hex(8)}))
    own = {"token": read_yaml(record)["token"], "folder": str(folder.resolve())}
    content = yaml.safe_dump(own).encode()
    try:
        if not sign.is_file() and artifacts.is_dir():
            raise RunRefusedError(
                f"{artifacts} is no workspace, but something lies there; choose another address with -o"
            )
        if sign.write_new(content):
            return
        owner = yaml.safe_load(sign.read_bytes())
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


def _is_elsewhere(folder: Path, owner: Mapping[str, str]) -> bool:
    """Return whether the folder that made a claim is still there, and this one a copy of it."""
    other = Path(owner["folder"])
    record = other / STORE
    return record.is_file() and not other.samefile(folder) and read_yaml(record)["token"] == owner["token"]
