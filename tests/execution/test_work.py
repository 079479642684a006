"""What a block's record says of its memory."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from neuroseg.execution.work import forget_peak_memory, peak_memory_mib

CLEARABLE = sys.platform == "linux" and Path("/proc/self/clear_refs").exists()


@pytest.mark.skipif(not CLEARABLE, reason="only Linux resets the peak of a process")
def test_the_peak_of_memory_is_that_since_it_was_forgotten() -> None:
    forget_peak_memory()
    before = peak_memory_mib()
    held = np.ones(256 << 20, np.uint8)
    raised = peak_memory_mib()
    assert raised >= before + 250
    del held
    assert peak_memory_mib() >= raised - 2, "a peak stays, as exactly as the kernel counts"
    forget_peak_memory()
    assert peak_memory_mib() <= raised - 200
