"""The stage `edges`: affinities and fragments -> the parts of the edge and node tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuroseg.blocks import Block, Lattice
from neuroseg.edges.contacts import block_edges
from neuroseg.edges.nodes import block_nodes
from neuroseg.geometry import Triple, contact_channels, describe, long_range_channels, reach_of, slices, triple
from neuroseg.stage import Process
from neuroseg.storage.affinity_source import AffinitySource
from neuroseg.storage.arrays import open_array
from neuroseg.storage.parts import part_path, write_table
from neuroseg.storage.workspace import Workspace

ALGORITHM = 1


@dataclass(frozen=True)
class EdgesStage:
    """Counts the contacts whose voxel v lies in the block, and its fragments' voxels.

    Long-range channels, where `affinities` has them, are counted into tables of their own.
    """

    workspace: Workspace
    affinities: AffinitySource
    lattice: Lattice
    upstream: str
    with_bins: bool

    name = "edges"
    inputs = ("affinities.zarr", "fragments.zarr")
    outputs = ("edges", "nodes", "bins", "long_range", "long_range_bins")

    @property
    def halo(self) -> Triple:
        """As far as the channels reach: one voxel for direct neighbours."""
        return reach_of(self.affinities.offsets)

    @property
    def scope(self) -> str:
        """Contacts past the region of interest do not exist."""
        return describe(self.lattice.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """What made the fragments, the links that are counted, and whether histograms are kept."""
        return {
            "algorithm": ALGORITHM,
            "fragments": self.upstream,
            **self.affinities.links,
            "histograms": self.with_bins,
        }

    def prepare(self) -> None:
        """Nothing to create: parts are files of their own."""

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Open the arrays once."""
        read = self.affinities.open()
        fragments = open_array(self.workspace.fragments)

        offsets, space = self.affinities.offsets, self.workspace
        # Contacts, and where long-range channels are read, evidence that may be about fragments that do not touch.
        kinds: list[tuple[tuple[int, ...], Path, Path]] = [(contact_channels(offsets), space.edges, space.bins)]
        if far := long_range_channels(offsets):
            kinds.append((far, space.long_range, space.long_range_bins))

        def process(block: Block) -> None:
            links, around = read(block.write_roi), np.asarray(fragments[slices(block.read_roi)])
            for channels, edge_parts, bin_parts in kinds:
                edges, bins = block_edges(
                    links,
                    around,
                    offsets=offsets,
                    read_roi=block.read_roi,
                    write_roi=block.write_roi,
                    channels=channels,
                    with_bins=self.with_bins,
                )
                write_table(part_path(edge_parts, block.index), edges)
                if self.with_bins:
                    write_table(part_path(bin_parts, block.index), bins)
            inner = around[slices(block.write_roi, block.read_roi.begin)]
            write_table(part_path(space.nodes, block.index), block_nodes(inner, triple(block.write_roi.begin)))

        yield process
