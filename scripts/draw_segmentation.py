#!/usr/bin/env python
"""Draw a region of a run: scripts/draw_segmentation.py VOLUME WORKSPACE TRUTH ROI OUTPUT.png [TITLE]

Example: scripts/draw_segmentation.py fib25.zarr fib25.neuroseg fib25_ts2.h5:neuron_ids_cc 120:160,:,: docs/fib25.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from neuroseg.geometry import parse_roi, slices
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from neuroseg.views.figure import segmentation_figure
from neuroseg.volumes.addresses import open_any
from neuroseg.volumes.volume import require_voxel_size


def main(volume_path: str, workspace_path: str, truth: str, roi_text: str, output: str, title: str = "") -> None:
    """Draw raw, affinities, fragments, segmentation and ground truth of a region in three planes."""
    volume, workspace = open_any(volume_path), Workspace(Path(workspace_path))
    roi = parse_roi(roi_text, volume.shape)
    box = slices(roi)
    segmentation_figure(
        Path(output),
        raw=volume.read(roi),
        affinities=np.asarray(open_array(workspace.affinities)[(slice(None), *box)]),
        labels={
            "fragments": np.asarray(open_array(workspace.fragments)[box]),
            "segmentation": np.asarray(open_array(workspace.segmentation / "0")[box]),
            "truth": open_any(truth).read(roi),
        },
        voxel_size_nm=require_voxel_size(volume),
        title=title,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
