"""The stage `fragments`: affinities -> provisional.zarr and entry tables, or directly fragments.zarr.

Distance basins give provisional names if a path leaves the block, and entry tables with which the stage `edges` finds
the final names. Methods that cut fragments at block borders directly give final names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroseg.blocks import Block, Lattice
from neuroseg.fragments.basins import block_fragments, stored_links
from neuroseg.fragments.distance_watershed import distance_watershed
from neuroseg.fragments.first_voxels import named_by_first_voxel
from neuroseg.fragments.mutex import mutex_watershed
from neuroseg.fragments.seeded import CONTEXT_VOXELS, seeded_watershed
from neuroseg.fragments.settings import DISTANCE_BASINS, MUTEX_WATERSHED, SEEDED_WATERSHED, BasinSettings
from neuroseg.geometry import Triple, contact_channels, describe, reach_of, slices
from neuroseg.stage import Process
from neuroseg.storage.arrays import ensure_array, open_array, write_region
from neuroseg.storage.parts import part_path, write_table
from neuroseg.storage.workspace import Workspace
from neuroseg.volumes.affinity_source import AffinitySource
from neuroseg.volumes.mask import MaskSource
from neuroseg.volumes.metadata import array_attributes

ALGORITHM = 1


@dataclass(frozen=True)
class FragmentsStage:
    """Compute the fragments and the entry table of each block."""

    workspace: Workspace
    affinities: AffinitySource
    upstream: str
    settings: BasinSettings
    lattice: Lattice
    mask: MaskSource | None

    name = "fragments"
    inputs = ("affinities.zarr",)
    outputs = ("provisional.zarr", "entries")

    @property
    def halo(self) -> Triple:
        """The reach of distances, smoothing and pointers."""
        return self.settings.halo_voxels

    @property
    def scope(self) -> str:
        """The region of interest: paths do not leave it, so names depend on it."""
        return describe(self.lattice.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The settings of the basins and the identity of the affinities."""
        return {
            "algorithm": ALGORITHM,
            "method": DISTANCE_BASINS,
            "affinities": self.upstream,
            **self.affinities.links,
            "block_voxels": list(self.lattice.block_shape),
            "mask": self.mask.identity if self.mask else None,
            **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self.settings).items()},
        }

    def prepare(self) -> None:
        """Create provisional.zarr if it does not exist."""
        ensure_array(
            self.workspace.provisional,
            self.name,
            shape=self.lattice.volume_shape,
            dtype=np.uint64,
            block=self.lattice.block_shape,
            attributes=array_attributes(self.affinities.voxel_size_nm, self.affinities.offset_nm),
        )

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Open the arrays once."""
        read = self.affinities.open()
        output = open_array(self.workspace.provisional, writable=True)
        inside = self.mask.open() if self.mask else None

        def process(block: Block) -> None:
            result = block_fragments(
                read(block.read_roi),
                offsets=self.affinities.offsets,
                read_roi=block.read_roi,
                write_roi=block.write_roi,
                bounds=self.lattice.roi,
                volume_shape=self.lattice.volume_shape,
                settings=self.settings,
                mask=inside(block.read_roi) if inside else None,
            )
            write_region(output, block.write_roi, result.names)
            entries = {"voxel": result.entry_voxels, "name": result.entry_names}
            write_table(part_path(self.workspace.entries, block.index), entries)

        yield process


@dataclass(frozen=True)
class CutFragmentsStage:
    """Compute the fragments of each block by a method that cuts them at block borders. Names are final."""

    workspace: Workspace
    affinities: AffinitySource
    upstream: str
    method: str
    lattice: Lattice
    mask: MaskSource | None

    name = "fragments"
    inputs = ("affinities.zarr",)
    outputs = ("fragments.zarr",)

    @property
    def halo(self) -> Triple:
        """The context that makes neighbouring blocks agree on most fragments at their border."""
        return reach_of(self.affinities.offsets) if self.method == MUTEX_WATERSHED else CONTEXT_VOXELS

    @property
    def scope(self) -> str:
        """The region of interest: voxels outside are not read."""
        return describe(self.lattice.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The method, the block shape and the identity of the affinities."""
        return {
            "algorithm": ALGORITHM,
            "method": self.method,
            "affinities": self.upstream,
            **self.affinities.links,
            "block_voxels": list(self.lattice.block_shape),
            "mask": self.mask.identity if self.mask else None,
        }

    def prepare(self) -> None:
        """Create fragments.zarr if it does not exist."""
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
        """Open the arrays once."""
        read = self.affinities.open()
        output = open_array(self.workspace.fragments, writable=True)
        inside = self.mask.open() if self.mask else None

        def process(block: Block) -> None:
            affinities = read(block.read_roi)
            if inside is not None:
                affinities = affinities * inside(block.read_roi)
            labels, count = self._labels(affinities, block)
            if inside is not None:
                labels = labels * inside(block.read_roi)
            inner = np.ascontiguousarray(labels[slices(block.write_roi, block.read_roi.begin)])
            shape = self.lattice.volume_shape
            write_region(output, block.write_roi, named_by_first_voxel(inner, count, block.write_roi, shape))

        yield process

    def _labels(self, affinities: NDArray[np.uint8], block: Block) -> tuple[NDArray[np.uint64], int]:
        offsets = self.affinities.offsets
        direct = contact_channels(offsets)
        if self.method == MUTEX_WATERSHED:
            return mutex_watershed(affinities, offsets, direct)
        of_sections = seeded_watershed if self.method == SEEDED_WATERSHED else distance_watershed
        return of_sections(affinities, direct, stored_links(block.read_roi, self.lattice.volume_shape, offsets, direct))
