"""Affinities -> segmentation with volara, as in its README: mutex-watershed fragments, edges, global mutex watershed.

Runs in volara's own environment: python volara_pipeline.py AFFINITIES FOLDER BLOCK. Prints the seconds of each step as
JSON on the last line. The time to copy the affinities into volara's layout (positive offsets) is not included.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import zarr
from funlib.geometry import Coordinate
from funlib.persistence import prepare_ds
from volara.blockwise import AffAgglom, ExtractFrags, GraphMWS, Relabel
from volara.datasets import Affs, Labels
from volara.dbs import SQLite
from volara.lut import LUT

NEIGHBOURS = [Coordinate(1, 0, 0), Coordinate(0, 1, 0), Coordinate(0, 0, 1)]
BIAS = -0.5
CONTEXT_VOXELS = 16


def copied(source: str, target: Path) -> Affs:
    """Copy affinities that link v to v - 1 (uint8) into a dataset that links v to v + 1 (uint8)."""
    ours = np.asarray(zarr.open_array(source, mode="r")[:])
    theirs = np.zeros_like(ours)
    theirs[0, :-1] = ours[0, 1:]
    theirs[1, :, :-1] = ours[1, :, 1:]
    theirs[2, :, :, :-1] = ours[2, :, :, 1:]
    array = prepare_ds(
        target, ours.shape, offset=(0, 0, 0), voxel_size=(10, 10, 10), axis_names=["c^", "z", "y", "x"],
        units=["nm", "nm", "nm"], dtype=np.uint8, chunk_shape=(3, 64, 64, 64),
    )  # fmt: skip
    array[:] = theirs
    return Affs(store=target, neighborhood=NEIGHBOURS)


def main(source: str, folder: Path, block: int) -> None:
    """Run the four tasks and measure each."""
    affinities = copied(source, folder / "volara.zarr" / "affinities")
    size, context = Coordinate((block,) * 3), Coordinate((CONTEXT_VOXELS,) * 3)
    database = SQLite(path=folder / "volara.zarr" / "db.sqlite", edge_attrs={"affinity": "float"})
    fragments, lookup = Labels(store=folder / "volara.zarr" / "fragments"), LUT(path=folder / "volara.zarr" / "lut.npz")
    whole = affinities.array("r").roi
    tasks = {
        "fragments": ExtractFrags(
            db=database, affs_data=affinities, frags_data=fragments, block_size=size, context=context, bias=[BIAS] * 3
        ),
        "edges": AffAgglom(
            db=database, affs_data=affinities, frags_data=fragments, block_size=size, context=context,
            scores={"affinity": NEIGHBOURS},
        ),
        "global": GraphMWS(
            db=database, lut=lookup, weights={"affinity": (1.0, BIAS)}, roi=[whole.get_begin(), whole.get_shape()]
        ),
        "relabel": Relabel(
            frags_data=fragments, seg_data=Labels(store=folder / "volara.zarr" / "segments"), lut=lookup,
            block_size=size,
        ),
    }  # fmt: skip
    seconds = {}
    for name, task in tasks.items():
        began = time.perf_counter()
        task.run_blockwise(multiprocessing=True)
        seconds[name] = time.perf_counter() - began
    print(json.dumps({**seconds, "end to end": sum(seconds.values())}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
