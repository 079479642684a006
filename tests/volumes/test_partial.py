"""Hidden folders of imports: removed afterwards, or by the next import if one was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neuroseg.volumes.partial import partial_folder

_WRITE_FOR_EVER = """
import sys, time
from pathlib import Path
from neuroseg.volumes.partial import partial_folder
with partial_folder(Path(sys.argv[1])) as folder:
    (folder / "voxels").write_text("half")
    print(folder, flush=True)
    time.sleep(600)
"""


def test_the_folder_of_a_killed_import_is_removed_by_the_next_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "V.zarr"
    writer = subprocess.Popen([sys.executable, "-c", _WRITE_FOR_EVER, str(output)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    left = Path(writer.stdout.readline().strip())
    with partial_folder(output):
        assert (left / "voxels").exists(), "a live import keeps its folder"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    with partial_folder(tmp_path / "Other.zarr"):
        assert left.exists()
    with partial_folder(output) as folder:
        assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert list(tmp_path.iterdir()) == []
    assert caplog.text.count("left over from an import that was killed") == 1


def test_a_folder_without_a_lock_is_kept_for_a_day(tmp_path: Path) -> None:
    old, new = (tmp_path / f".V.zarr.partial-0000000{number}" for number in (1, 2))
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (time.time() - 90000,) * 2)
    with partial_folder(tmp_path / "V.zarr"):
        pass
    assert list(tmp_path.iterdir()) == [new]
