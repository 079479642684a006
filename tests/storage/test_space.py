"""A disk that is full is named, and no other one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from neuroseg.storage.publish import publish_text, published
from neuroseg.storage.space import describe_full, is_disk_full, naming


def full(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path)


def test_the_path_of_the_error_is_named_with_what_its_disk_has_free(tmp_path: Path) -> None:
    told = describe_full(full(errno.ENOSPC, str(tmp_path / "home" / "cache")), tmp_path / "w")
    assert told.startswith(f"the disk is full: {tmp_path}/home/cache has ")
    assert told.endswith(" free")


def test_a_quota_is_no_full_disk() -> None:
    assert describe_full(full(errno.EDQUOT, "/home/me/x")) == "the disk is full: your quota is used up, at /home/me/x"
    assert describe_full(full(errno.EDQUOT)) == "the disk is full: your quota is used up"


def test_an_error_without_a_path_blames_only_disks_that_are_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert describe_full(full(errno.ENOSPC), tmp_path) == "the disk is full"
    monkeypatch.setattr("neuroseg.storage.space.free_bytes", lambda path: 4096 if path == tmp_path else 1e12)
    assert describe_full(full(errno.ENOSPC), Path("/"), tmp_path) == f"the disk is full: {tmp_path} has 4 kB free"


def test_what_is_published_is_named_where_the_system_does_not(tmp_path: Path) -> None:
    def write_half() -> None:
        with published(tmp_path / "a.txt") as aside:
            aside.write_text("half")
            raise full(errno.ENOSPC)

    with pytest.raises(OSError, match="No space left") as caught:
        write_half()
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="No space left") as caught, naming("/b"):
        raise full(errno.ENOSPC, "/a")
    assert caught.value.filename == "/a", "what the system names is kept"


def test_it_is_found_behind_other_errors() -> None:
    error = ValueError("cannot encode")
    error.__cause__ = full(errno.ENOSPC, "/a")
    assert is_disk_full(error)
    assert describe_full(error).startswith("the disk is full: /a has ")


def test_texts_are_published(tmp_path: Path) -> None:
    publish_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"
