"""What only a GPU shows: its list, its memory, and that listing it elsewhere takes nothing of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from neuroseg.affinities.batches import fits, gpu_memory
from neuroseg.affinities.gpus import computing_device, listed_gpus, own_gpus
from neuroseg.affinities.predictors import open_predictor
from neuroseg.networks.bundle import open_bundle

pytestmark = pytest.mark.gpu


def test_another_process_lists_the_same_gpus() -> None:
    assert list(listed_gpus()) == own_gpus()


def test_planning_does_not_initialise_cuda() -> None:
    script = (
        "import torch; from neuroseg.affinities.planned_device import local_device; "
        "print(local_device('auto')[0], torch.cuda.is_initialized())"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed == "cuda False\n"


def test_a_batch_larger_than_the_memory_does_not_fit(tiny_model: str) -> None:
    with computing_device("cuda") as device:
        predictor = open_predictor(open_bundle(tiny_model), device)
        assert fits(predictor, device, (32, 32, 32), 2)
        assert not fits(predictor, device, (32, 32, 32), 10**8), "3 TiB of windows"
        assert fits(predictor, device, (32, 32, 32), 2), "nothing is left in memory"
        assert gpu_memory(device).endswith("GiB free")
