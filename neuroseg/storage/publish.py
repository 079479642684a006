"""Files that appear whole or not at all: written aside, flushed, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on leaving without an error it replaces `path` in one step, otherwise it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def publish_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with published(path) as aside:
        aside.write_text(text)
