"""Which executors can be tested here, and the SLURM that some of them need."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec

import pytest


def _reason() -> str:
    if shutil.which("sbatch") is None:
        return "no SLURM here: sbatch is not installed"
    if subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        return "no SLURM here: its controller does not answer"
    return ""


NO_SLURM = _reason()
# Processes that share the tests out give those of the one cluster to one of them.
SLURM = (pytest.mark.skipif(bool(NO_SLURM), reason=NO_SLURM), pytest.mark.xdist_group("slurm"))
needs_dask = pytest.mark.skipif(not find_spec("distributed"), reason="the package distributed is not installed")
EXECUTORS = (
    "serial",
    "local",
    pytest.param("slurm", marks=(*SLURM, pytest.mark.long)),
    pytest.param("dask", marks=(needs_dask, pytest.mark.long)),
)


def needs_slurm(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs the cluster."""
    for mark in SLURM:
        test = mark(test)
    return test
