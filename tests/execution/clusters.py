"""Which executors can be tested here, and the SLURM that some of them need."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec

import pytest


def _reason() -> str:
    if shutil.which("sbatch") is None:
        return "no SLURM here: sbatch is not installed"
    if subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        return "no SLURM here: its controller does not answer"
    return ""


NO_SLURM = _reason()
needs_slurm = pytest.mark.skipif(bool(NO_SLURM), reason=NO_SLURM)
needs_dask = pytest.mark.skipif(not find_spec("distributed"), reason="the package distributed is not installed")
EXECUTORS = ("serial", "local", pytest.param("slurm", marks=needs_slurm), pytest.param("dask", marks=needs_dask))
