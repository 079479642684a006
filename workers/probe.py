"""Program of the job of `neuroseg cluster check`: `python -m neuroseg.workers.probe FOLDER TOKEN HEAD KIND`."""

from __future__ import annotations

import os
import platform
import sys

from neuroseg import __version__
from neuroseg.execution.cluster.program import Head


def main(folder: str, token: str, head: str, kind: str) -> None:
    """Connect to the head like a worker, and report the software and hardware of this machine."""
    found = Head(folder, token, head)
    about = _about()  # before connecting, because it may take long and the head waits for connected jobs
    channel = found.connect()
    channel.send({"kind": kind, **about})
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
        # workers/slurm/worker.sbatch sets it if `activate` fails.
        "activate": os.environ.get("NEUROSEG_ACTIVATE_FAILED", "").strip("; ") or "ok",
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
