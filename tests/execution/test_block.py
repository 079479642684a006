"""The memory in a block's record, and the modules that a worker imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neuroseg.execution.block import forget_peak_memory, peak_memory_mib

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


def test_a_worker_loads_nothing_that_its_kernels_do_not_use(tmp_path: Path) -> None:
    """Importing pandas and scipy's linear algebra takes almost a second. Other packages may import them."""
    program = f"""
import sys
from pathlib import Path
import numpy as np
from neuroseg.agglomeration.partition import root
from neuroseg.storage.parts import read_table, write_table
from neuroseg.runs.worker import set_up

set_up()
assert root(np.array([0, 0, 1]), 2) == 0
write_table(Path({str(tmp_path)!r}) / "t.parquet", {{"a": np.arange(3)}})
assert read_table(Path({str(tmp_path)!r}) / "t.parquet", {{"a": np.int64}})["a"].tolist() == [0, 1, 2]
print(sorted({{"pandas", "scipy.linalg", "torch"}} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
