"""Workers of one machine are shared out among its GPUs, one each in turn; a place that falls free is taken again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from neuroseg.affinities.device import own_gpus

BECOME = """
import sys
from pathlib import Path
from neuroseg.execution.handover import become_worker
say = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); input()"
become_worker([sys.executable, "-c", say], ["3", "GPU-7"], Path(sys.argv[1]))
"""


def begun(places: Path) -> tuple[subprocess.Popen[str], str]:
    """A worker that waits, and the GPU that it sees."""
    worker = subprocess.Popen(
        [sys.executable, "-c", BECOME, str(places)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    return worker, worker.stdout.readline().strip()


def end(worker: subprocess.Popen[str]) -> None:
    worker.communicate("\n")


def test_workers_take_gpus_in_turn_and_places_that_fell_free(tmp_path: Path) -> None:
    workers = [begun(tmp_path) for _ in range(3)]
    assert [gpu for _, gpu in workers] == ["3", "GPU-7", "3"]
    end(workers[1][0])
    again = begun(tmp_path)
    assert again[1] == "GPU-7"
    for worker, _ in (workers[0], workers[2], again):
        end(worker)


def test_the_gpus_are_those_that_this_process_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: (7, 5) if number == 2 else (9, 0))
    assert own_gpus("cuda") == ["0", "1"], "the third is of another kind"
    assert own_gpus("cuda:1") == own_gpus("cpu") == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5f")
    assert own_gpus("cuda") == ["4", "GPU-5f"]
