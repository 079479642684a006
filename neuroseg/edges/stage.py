"""The stage `edges`: affinities and fragments -> the parts of the edge and node tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuroseg.blocks import Block, Lattice
from neuroseg.edges.contacts import block_edges
from neuroseg.edges.nodes import block_nodes
from neuroseg.geometry import Triple, contact_channels, describe, slices, triple
from neuroseg.stage import Process
from neuroseg.storage.affinity_source import AffinitySource
from neuroseg.storage.arrays import open_array
from neuroseg.storage.parts import part_path, write_table
from neuroseg.storage.workspace import Workspace

ALGORITHM = 1


@dataclass(frozen=True)
class EdgesStage:
    """Counts the contacts whose voxel v lies in the block, and its fragments' voxels."""

    workspace: Workspace
    affinities: AffinitySource
    lattice: Lattice
    upstream: str
    with_bins: bool

    name = "edges"
    inputs = ("affinities.zarr", "fragments.zarr")
    outputs = ("edges", "nodes", "bins")

    @property
    def halo(self) -> Triple:
        """One voxel: direct neighbours."""
        offsets = [self.affinities.offsets[channel] for channel in contact_channels(self.affinities.offsets)]
        return triple([max(abs(offset[axis]) for offset in offsets) for axis in range(3)])

    @property
    def scope(self) -> str:
        """Contacts past the region of interest do not exist."""
        return describe(self.lattice.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """What made the fragments, and whether histograms are kept."""
        return {"algorithm": ALGORITHM, "fragments": self.upstream, "histograms": self.with_bins}

    def prepare(self) -> None:
        """Nothing to create: parts are files of their own."""

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Open the arrays once."""
        read = self.affinities.open()
        fragments = open_array(self.workspace.fragments)

        def process(block: Block) -> None:
            around = np.asarray(fragments[slices(block.read_roi)])
            edges, bins = block_edges(
                read(block.write_roi),
                around,
                offsets=self.affinities.offsets,
                read_roi=block.read_roi,
                write_roi=block.write_roi,
                with_bins=self.with_bins,
            )
            inner = around[slices(block.write_roi, block.read_roi.begin)]
            write_table(part_path(self.workspace.edges, block.index), edges)
            write_table(part_path(self.workspace.nodes, block.index), block_nodes(inner, triple(block.write_roi.begin)))
            if self.with_bins:
                write_table(part_path(self.workspace.bins, block.index), bins)

        yield process
