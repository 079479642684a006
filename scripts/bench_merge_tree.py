"""Memory of the merge tree: bytes for each edge, for a grid of fragments with random affinities. Prints JSON.

    python scripts/bench_merge_tree.py [--edges 1000000] [--scoring mean|quantile:50]

Peak resident memory after the merge minus that before the table was made, so the table itself is included.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np

from neuroseg.agglomeration.scorings import parse_scoring
from neuroseg.agglomeration.tree import merge_tree
from neuroseg.tables import BINS, Table, empty


def main() -> None:
    """Measure and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=1_000_000, help="about how many edges (default 1000000)")
    parser.add_argument("--scoring", default="mean", help="mean or quantile:50 (default mean)")
    given = parser.parse_args()
    scoring = parse_scoring(given.scoring)
    merge_tree(grid_edges(1000), empty(BINS), scoring)  # compiles
    before = peak_bytes()
    edges = grid_edges(given.edges)
    began = time.perf_counter()
    merges = merge_tree(edges, empty(BINS), scoring)
    seconds, count = time.perf_counter() - began, len(edges["u"])
    found = {
        "edges": count,
        "merges": len(merges["a"]),
        "seconds": round(seconds, 1),
        "bytes_an_edge": round((peak_bytes() - before) / count),
    }
    print(json.dumps(found, indent=1))


def grid_edges(count: int) -> Table:
    """Return about `count` edges between face neighbours of a cubic grid of fragments."""
    width = max(2, round((count / 3) ** (1 / 3)))
    names = np.arange(1, width**3 + 1, dtype=np.uint64).reshape(width, width, width)
    pairs = [(np.delete(names, -1, axis).ravel(), np.delete(names, 0, axis).ravel()) for axis in range(3)]
    u, v = (np.concatenate(side) for side in zip(*pairs, strict=True))
    order = np.lexsort((v, u))
    rng = np.random.default_rng(1)
    contacts = rng.integers(1, 200, len(u)).astype(np.int64)
    largest = rng.integers(0, 256, len(u)).astype(np.uint8)
    sums = (contacts * rng.integers(0, 256, len(u))).astype(np.uint64)
    return {
        "u": u[order], "v": v[order], "contact_count": contacts, "affinity_sum": sums, "affinity_max": largest,
    }  # fmt: skip


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
