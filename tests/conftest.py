"""What tests of several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Compiling and slow shared machines make deadlines meaningless; the examples are chosen the same way on every run.
settings.register_profile(
    "neuroseg", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("neuroseg")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real volumes beside the repository; skips where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real volumes (a folder shared/data beside the repository) are not here")
    return folder
