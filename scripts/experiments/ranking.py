"""Ranking error of affinities: how well they separate linked from other neighbours. Less noisy than VOI."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import zarr
from numpy.typing import NDArray

from neuroseg.training.data.affinity_targets import affinity_targets


def ranking_error(affinities: NDArray[np.uint8], linked: NDArray[np.float32], known: NDArray[np.float32]) -> float:
    """Return the share of (linked voxel, unlinked voxel) pairs in which the unlinked voxel has the higher affinity.

    All arrays are `(channels, z, y, x)`. `linked` and `known` are targets and mask of affinity_targets. The result is
    the mean over channels of 1 minus the area under the ROC curve; ties count half. 0 is perfect, 0.5 is chance. NaN if
    a channel lacks linked or unlinked voxels.
    """
    errors = []
    for values, link, mask in zip(affinities, linked > 0, known > 0, strict=True):
        yes, no = (np.bincount(values[kind & mask], minlength=256).astype(float) for kind in (link, ~link))
        above = no.sum() - np.cumsum(no)
        pairs = yes.sum() * no.sum()
        errors.append(float((yes * (above + no / 2)).sum() / pairs) if pairs else float("nan"))
    return float(np.mean(errors))


def ranking_error_of(workspace: Path, truth: Path, first: int, last: int) -> float:
    """Return the ranking error of a workspace's affinities on sections `first` to `last` - 1 of labels in an HDF5 file.

    Section `first` - 1 must also be labelled, because links of the first section lead there.
    """
    array = zarr.open_array(str(workspace / "affinities.zarr"), mode="r")
    offsets = array.attrs["offsets"]
    with h5py.File(truth) as file:
        labels = file["neuron_ids_cc"][first - 1 : last].astype(np.uint32)
    linked, known = (values[:, 1:] for values in affinity_targets(labels, offsets))
    return ranking_error(np.asarray(array[:, first:last]), linked, known)
