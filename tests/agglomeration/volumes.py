"""Affinities and fragments on which agglomeration is compared with waterz: random ones, and real ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray
from scipy import ndimage

from neuroseg.affinities.device import choose_device
from neuroseg.affinities.predictors import open_predictor
from neuroseg.agglomeration.partition import segment_lookup
from neuroseg.fragments.settings import BasinSettings
from neuroseg.geometry import Triple, slices, whole
from neuroseg.networks.bundle import open_bundle
from neuroseg.runs.in_memory import fragments_and_tables
from neuroseg.tables import NODES, Table
from neuroseg.volumes.affinity_source import BOUNDARY_OFFSETS, open_boundaries

VOLUMES = ("random", "fib25", "gala")


@dataclass(frozen=True)
class Volume:
    """Affinities `(3, z, y, x)` uint8, fragments 1..n, and the tables of the edges between them."""

    affinities: NDArray[np.uint8]
    fragments: NDArray[np.uint64]
    edges: Table
    bins: Table

    @property
    def count(self) -> int:
        """How many fragments there are."""
        return int(self.fragments.max())


def volume_called(name: str, data_folder: Path) -> Volume:
    """Return one of VOLUMES."""
    if name == "random":
        return volume_of(random_affinities((40, 44, 48)))
    if name == "fib25":
        return volume_of(predicted_affinities(data_folder / "fib25_ts2.h5", (64, 64, 128)))
    boundaries = open_boundaries(f"{data_folder / 'gala_train.h5'}:boundary_prob", (10.0, 10.0, 10.0))
    return volume_of(boundaries.open()(Roi((0, 0, 0), (50, 100, 100))))


def volume_of(affinities: NDArray[np.uint8]) -> Volume:
    """Return affinities with their fragments, renumbered 1..n in ascending order: waterz' memory goes by the largest.

    The tables keep their rows in the order of (u, v), which the new numbers do not change.
    """
    made = fragments_and_tables(affinities, BOUNDARY_OFFSETS, BasinSettings((10.0, 10.0, 10.0)), with_bins=True)
    ids = made.nodes["fragment"]

    def renumbered(table: Table) -> Table:
        ends = {name: (np.searchsorted(ids, table[name]) + 1).astype(np.uint64) for name in ("u", "v")}
        return {**table, **ends}

    fragments = (np.searchsorted(ids, made.fragments) + 1).astype(np.uint64)
    return Volume(affinities, fragments, renumbered(made.edges), renumbered(made.bins))


def random_affinities(shape: Triple) -> NDArray[np.uint8]:
    """Return smooth noise as affinities."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random((3, *shape)), (0, 2, 2, 2))
    return np.round(255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)


def predicted_affinities(file: Path, shape: Triple) -> NDArray[np.uint8]:
    """Return the bundled model's affinities of the first voxels of a volume."""
    bundle = open_bundle("fib25_light")
    with h5py.File(file) as opened:
        raw = opened["raw"][tuple(slice(0, size + context) for size, context in zip(shape, (32, 32, 32), strict=True))]
    predictor = open_predictor(bundle, choose_device("cpu"))
    return predictor.predict(lambda roi: raw[slices(roi)], raw.shape, whole(shape))


def dithered(affinities: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return float affinities in [0, 1] that round to these, spread at random so that no two are alike."""
    spread = np.random.default_rng(1).uniform(-0.49, 0.49, affinities.shape)
    return (np.clip(affinities + spread, 0, 255) / 255).astype(np.float32)


def float_edges(affinities: NDArray[np.float32], volume: Volume) -> Table:
    """Return the volume's edge table with 255 times the sum of float affinities in [0, 1] as `affinity_sum`."""
    keys, values = [], []
    for axis in range(3):
        upper = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        lower = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        one, other = volume.fragments[upper], volume.fragments[lower]
        apart = one != other
        low, high = np.minimum(one, other)[apart], np.maximum(one, other)[apart]
        keys.append(low * np.uint64(volume.count + 1) + high)
        values.append(affinities[axis][upper][apart].astype(np.float64))
    rows = np.unique(np.concatenate(keys), return_inverse=True)[1]
    sums = np.bincount(rows, np.concatenate(values))
    assert len(sums) == len(volume.edges["u"])
    return {**volume.edges, "affinity_sum": 255 * sums}


def segments_of(tree: Table, count: int, threshold: float) -> NDArray[np.uint64]:
    """Return the segment of fragments 1..count by the product's lookup."""
    nodes = {"fragment": np.arange(1, count + 1, dtype=NODES["fragment"]), "voxel_count": np.ones(count, np.uint64)}
    return segment_lookup(tree, nodes, threshold=threshold)["segment"]


def partition(segments: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return, per fragment, the first fragment of its segment: equal for equal partitions, whatever the ids."""
    _, first, rows = np.unique(segments, return_index=True, return_inverse=True)
    return first[rows]
