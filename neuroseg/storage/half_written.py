"""Remove the temporary files of processes that were killed while writing.

Temporary files lie next to the files of unfinished blocks, and in a few folders of small files. Only these folders are
searched: the whole workspace may contain millions of files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from neuroseg.blocks import Block
from neuroseg.storage.stored import files_of
from neuroseg.storage.trees import Place

_SUFFIX = ".partial"


def remove_half_written(outputs: Iterable[Place], blocks: Sequence[Block]) -> None:
    """Remove temporary files of `blocks` next to their files in `outputs`.

    Outputs on a server are skipped: a server never shows a partial object.
    """
    if not blocks:
        return
    folders: set[Path] = set()
    for place in outputs:
        if isinstance(place, Path):
            folders |= {place, *(Path(str(file)).parent for block in blocks for file in files_of(place, block))}
    remove_partial_files(folders)


def remove_partial_files(folders: Iterable[Path]) -> None:
    """Remove the temporary files in some folders, not in their subfolders. A folder may be missing."""
    for folder in folders:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX) and entry.is_file(follow_symlinks=False):
                    Path(entry.path).unlink(missing_ok=True)
