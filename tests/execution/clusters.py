"""Which executors can be tested here, and the SLURM that some of them need."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def _reason() -> str:
    if shutil.which("sbatch") is None:
        return "no SLURM here: sbatch is not installed"
    if subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        return "no SLURM here: its controller does not answer"
    return ""


NO_SLURM = _reason()
needs_slurm = pytest.mark.skipif(bool(NO_SLURM), reason=NO_SLURM)
EXECUTORS = ("serial", "local", pytest.param("slurm", marks=needs_slurm))
