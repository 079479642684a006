"""The message of a full disk names the full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from neuroseg.storage.publish import publish_text, published
from neuroseg.storage.space import describe_full, is_disk_full, path_in_errors


def full(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path)


def test_the_message_names_the_path_and_its_free_space(tmp_path: Path) -> None:
    message = describe_full(full(errno.ENOSPC, str(tmp_path / "home" / "cache")), tmp_path / "w")
    assert message.startswith(f"the disk is full: {tmp_path}/home/cache has ")
    assert message.endswith(" free")


def test_an_exceeded_quota_has_its_own_message() -> None:
    assert describe_full(full(errno.EDQUOT, "/home/me/x")) == "the disk is full: your quota is used up at /home/me/x"
    assert describe_full(full(errno.EDQUOT)) == "the disk is full: your quota is used up"


def test_without_a_path_in_the_error_only_full_disks_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe_full(full(errno.ENOSPC), tmp_path) == "the disk is full"
    monkeypatch.setattr("neuroseg.storage.space.free_bytes", lambda path: 4096 if path == tmp_path else 1e12)
    assert describe_full(full(errno.ENOSPC), Path("/"), tmp_path) == f"the disk is full: {tmp_path} has 4 kB free"


def test_a_published_file_is_named_if_the_error_has_no_path(tmp_path: Path) -> None:
    def write_half() -> None:
        with published(tmp_path / "a.txt") as aside:
            aside.write_text("half")
            raise full(errno.ENOSPC)

    with pytest.raises(OSError, match="No space left") as caught:
        write_half()
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="No space left") as caught, path_in_errors("/b"):
        raise full(errno.ENOSPC, "/a")
    assert caught.value.filename == "/a", "a path in the error is kept"


def test_a_full_disk_is_found_in_the_chain_of_causes() -> None:
    error = ValueError("cannot encode")
    error.__cause__ = full(errno.ENOSPC, "/a")
    assert is_disk_full(error)
    assert describe_full(error).startswith("the disk is full: /a has ")


def test_texts_are_published(tmp_path: Path) -> None:
    publish_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"
