"""The main program that prints the GPUs that it may use: `python -m neuroseg.workers.list_gpus`.

A process that must not initialise CUDA itself starts it, see `listed_gpus` in affinities/gpus.py.
"""

from __future__ import annotations

from neuroseg.affinities.gpus import as_json, own_gpus


def main() -> None:
    """Print the GPUs as JSON."""
    print(as_json(own_gpus()))


if __name__ == "__main__":
    main()
