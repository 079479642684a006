"""The stage `edges`: affinities and fragments -> edge tables, node tables, and final names of fragments.

This stage replaces provisional names by final ones, since it reads the fragments around each block. It never writes to
an array that it reads: a worker would read zeros from a shard that another worker is replacing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from funlib.geometry import Roi

from neuroseg.blocks import Block, Lattice
from neuroseg.edges.contacts import block_edges
from neuroseg.edges.dense import DenseFragments, dense_fragments, with_ids
from neuroseg.edges.nodes import block_nodes
from neuroseg.edges.rename import Entries, final_names
from neuroseg.geometry import Triple, contact_channels, describe, long_range_channels, reach_of, slices, triple
from neuroseg.stage import Process
from neuroseg.storage.arrays import ensure_array, open_array, read_region, write_region
from neuroseg.storage.parts import part_path, read_part, write_table
from neuroseg.storage.trees import Place
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import ENTRIES
from neuroseg.volumes.affinity_source import AffinitySource
from neuroseg.volumes.metadata import array_attributes

ALGORITHM = 2
_CACHED_TABLES = 32


@dataclass(frozen=True)
class EdgesStage:
    """Count the contacts and the voxels of fragments in each block.

    Long-range channels, if any, are counted in separate tables. `provisional`: whether names of fragments are
    provisional and there are entry tables.
    """

    workspace: Workspace
    affinities: AffinitySource
    lattice: Lattice
    upstream: str
    with_bins: bool
    provisional: bool

    name = "edges"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Affinities, fragments, and entry tables if names are provisional."""
        return ("affinities.zarr", *(("provisional.zarr", "entries") if self.provisional else ("fragments.zarr",)))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Tables, and fragments with final names if they were provisional."""
        tables = ("edges", "nodes", "bins", "long_range", "long_range_bins")
        return ("fragments.zarr", *tables) if self.provisional else tables

    @property
    def halo(self) -> Triple:
        """The reach of the offsets: one voxel for direct neighbours."""
        return reach_of(self.affinities.offsets)

    @property
    def scope(self) -> str:
        """The region of interest: contacts outside are not counted."""
        return describe(self.lattice.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The identity of the fragments, the counted links, and whether histograms are stored."""
        return {
            "algorithm": ALGORITHM,
            "fragments": self.upstream,
            **self.affinities.links,
            "histograms": self.with_bins,
        }

    def prepare(self) -> None:
        """Create fragments.zarr if names are provisional and it does not exist."""
        if self.provisional:
            ensure_array(
                self.workspace.fragments,
                self.name,
                shape=self.lattice.volume_shape,
                dtype=np.uint64,
                block=self.lattice.block_shape,
                attributes=array_attributes(self.affinities.voxel_size_nm, self.affinities.offset_nm),
            )

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Open the arrays once, and cache the entry tables of recent blocks."""
        read, named = self.affinities.open(), self._open_fragments()
        offsets, space = self.affinities.offsets, self.workspace
        # Contacts, and evidence of long-range channels, also for pairs of fragments that do not touch.
        kinds: list[tuple[tuple[int, ...], Place, Place]] = [(contact_channels(offsets), space.edges, space.bins)]
        if far := long_range_channels(offsets):
            kinds.append((far, space.long_range, space.long_range_bins))

        def process(block: Block) -> None:
            around = _with_partners(block, offsets)
            fragments = named(block, around)  # first, since this fails early if an entry table is missing
            links = read(block.write_roi)
            for channels, edge_parts, bin_parts in kinds:
                edges, bins = block_edges(
                    links,
                    fragments,
                    offsets=offsets,
                    read_roi=around,
                    write_roi=block.write_roi,
                    channels=channels,
                    with_bins=self.with_bins,
                )
                write_table(part_path(edge_parts, block.index), edges)
                if self.with_bins:
                    write_table(part_path(bin_parts, block.index), bins)
            inner = DenseFragments(fragments.numbers[slices(block.write_roi, around.begin)], fragments.ids)
            write_table(part_path(space.nodes, block.index), block_nodes(inner, triple(block.write_roi.begin)))

        yield process

    def _open_fragments(self) -> Callable[[Block, Roi], DenseFragments]:
        """Return a function that reads the fragments of a region with final names, and stores those of the block."""
        array = open_array(self.workspace.provisional if self.provisional else self.workspace.fragments)
        output = open_array(self.workspace.fragments, writable=True) if self.provisional else None

        @lru_cache(maxsize=_CACHED_TABLES)
        def entries_of(block: int) -> Entries:
            table = read_part(self.workspace.entries, block, ENTRIES)
            return table["voxel"], table["name"]

        def named(block: Block, around: Roi) -> DenseFragments:
            found = dense_fragments(read_region(array, around))
            if output is None:
                return found
            final = final_names(found.ids, self.lattice, entries_of)
            write_region(output, block.write_roi, final[found.numbers[slices(block.write_roi, around.begin)]])
            return with_ids(found, final)

        return named


def _with_partners(block: Block, offsets: Sequence[Triple]) -> Roi:
    """Return the write region grown by the reach of the offsets, clipped to the read region."""
    lower = [max(0, *(-offset[axis] for offset in offsets)) for axis in range(3)]
    upper = [max(0, *(offset[axis] for offset in offsets)) for axis in range(3)]
    return block.write_roi.grow(lower, upper).intersect(block.read_roi)
