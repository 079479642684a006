"""The main of a job that only tells the head what it is: `python -m neuroseg.workers.probe FOLDER TOKEN HEAD`."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from neuroseg import __version__
from neuroseg.execution.channel import connect
from neuroseg.execution.listener import secret_path


def main(folder: str, token: str, head: str) -> None:
    """Reach the head as a worker does, and say who is there."""
    addresses = [(host, int(port)) for host, _, port in (one.rpartition(":") for one in head.split(","))]
    secret = secret_path(Path(folder), token).read_bytes()
    about = _about()  # it may take long: the head waits for whoever is connected
    channel = connect(addresses, secret)
    channel.send(about)
    channel.close()


def _about() -> dict[str, object]:
    import torch

    return {
        "host": platform.node(),
        "neuroseg": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": len(os.sched_getaffinity(0)),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "gpus": torch.cuda.device_count(),
        # Of the site's `activate`, by workers/slurm/worker.sbatch.
        "activate": os.environ.get("NEUROSEG_ACTIVATE_FAILED", "").strip("; ") or "ok",
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
