"""Write the segmentation at a threshold, when the page asks for it: `neuroseg segment` as a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_STOP_TIMEOUT_S = 10.0


class SegmentCommand:
    """Runs `neuroseg segment WORKSPACE --threshold T --min-size N`, one at a time. Without a workspace, refuses."""

    def __init__(self, workspace: Path | None) -> None:
        self._workspace = workspace
        self._process: subprocess.Popen[bytes] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the viewer
        self._command = ""

    def start(self, threshold: float, min_size_voxels: int) -> dict[str, Any]:
        """Start the command unless one is running. Return its state."""
        if self._workspace is not None and (self._process is None or self._process.poll() is not None):
            options = [
                "segment",
                str(self._workspace),
                "--threshold",
                repr(threshold),
                "--min-size",
                str(min_size_voxels),
            ]
            self._output.seek(0)
            self._output.truncate()
            self._command = " ".join(["neuroseg", *options])
            # -P: do not import from the working directory, which may contain data of others.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "neuroseg", *options],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._output,
            )  # fmt: skip
        return self.state()

    def state(self) -> dict[str, Any]:
        """Return the command, whether it is running, and its error message if it failed."""
        if self._process is None:
            return {"command": "", "running": False, "error": ""}
        running = self._process.poll() is None
        return {"command": self._command, "running": running, "error": "" if running else self._error()}

    def _error(self) -> str:
        """Return the error message of the command that has ended. Empty if it succeeded."""
        if self._process is None or self._process.returncode == 0:
            return ""
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        return next((line for line in lines if line.startswith("error:")), "the command ended without a message")

    def wait(self) -> None:
        """Wait for the end of a running command."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """Interrupt a running command, and wait for its end. The command cannot be used afterwards."""
        self._output.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_TIMEOUT_S)
