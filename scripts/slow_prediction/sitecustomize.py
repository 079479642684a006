"""Make a prediction copy affinities and sleep, to simulate a GPU. Python imports this if the folder is on its path.

SLOW_PREDICTION=SECONDS:AFFINITIES sets the time per block and the path of the affinities.
"""

from __future__ import annotations

import os

if given := os.environ.get("SLOW_PREDICTION"):
    import time
    from contextlib import contextmanager

    import zarr

    from neuroseg.affinities.stage import AffinitiesStage
    from neuroseg.geometry import slices
    from neuroseg.storage.arrays import open_array, write_region

    _seconds, _, _path = given.partition(":")

    @contextmanager
    def _copying(stage):  # type: ignore[no-untyped-def]
        source = zarr.open_array(_path, mode="r")
        output = open_array(stage.workspace.affinities, writable=True)

        def process(block):  # type: ignore[no-untyped-def]
            time.sleep(float(_seconds))
            write_region(output, block.write_roi, source[(slice(None), *slices(block.write_roi))])

        yield process

    AffinitiesStage.open = _copying  # type: ignore[method-assign]
