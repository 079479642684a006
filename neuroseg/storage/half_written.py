"""Files that killed processes were writing; they would have been renamed when whole.

Where they may lie is known: beside the files of the blocks that were in hand, and in a few folders of small files. The
workspace itself, which may have millions of files, is not walked through.
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


def remove_half_written(outputs: Iterable[Place], ledger: Path, blocks: Sequence[Block]) -> None:
    """Remove what was being written of `blocks`: beside their files among `outputs`, and among a stage's marks.

    `ledger` is the stage's folder. Servers show nothing that is not whole.
    """
    if not blocks:
        return
    folders = {ledger / "done", ledger / "failed"}
    for place in outputs:
        if isinstance(place, Path):
            folders |= {place, *(Path(str(file)).parent for block in blocks for file in files_of(place, block))}
    remove_partial_files(folders)


def remove_partial_files(folders: Iterable[Path]) -> None:
    """Remove the partial files in some folders, not in those below; folders may be missing."""
    for folder in folders:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX) and entry.is_file(follow_symlinks=False):
                    Path(entry.path).unlink(missing_ok=True)
