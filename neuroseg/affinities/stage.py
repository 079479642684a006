"""The stage `affinities`: raw volume -> affinities.zarr."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuroseg.affinities.tiles import rounded_to_tiles
from neuroseg.blocks import Block, Lattice
from neuroseg.geometry import Triple, slices
from neuroseg.networks.bundle import open_bundle
from neuroseg.stage import Finish, Process
from neuroseg.storage.arrays import create_array, open_array, require_aligned
from neuroseg.storage.mask import MaskSource
from neuroseg.storage.metadata import array_attributes
from neuroseg.storage.raw import RawSource
from neuroseg.storage.workspace import Workspace

ALGORITHM = 1


@dataclass(frozen=True)
class AffinitiesStage:
    """Predicts affinities; a block is a whole number of tiles, so that no tile is computed twice."""

    workspace: Workspace
    raw: RawSource
    model: str
    model_sha256: str
    device: str
    device_identity: Mapping[str, str]
    requested: Lattice
    tile: Triple
    blend: str
    mask: MaskSource | None

    name = "affinities"
    inputs = ("raw",)
    outputs = ("affinities.zarr",)
    halo = (0, 0, 0)
    scope = ""

    @property
    def lattice(self) -> Lattice:
        """The requested blocks, rounded up to whole tiles; those outside the mask are left out."""
        block = rounded_to_tiles(self.requested.block_shape, self.tile)
        wanted = self.mask.touching() if self.mask else None
        return Lattice(self.requested.volume_shape, block, self.requested.roi, wanted)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Input, model, blend and device; tile and batch are part of the model's hash."""
        return {
            "algorithm": ALGORITHM,
            "model": self.model_sha256,
            "input": self.raw.identity,
            "blend": self.blend,
            "mask": self.mask.identity if self.mask else None,
            "value_range": list(self.raw.value_range) if self.raw.value_range else None,
            "block_voxels": list(self.lattice.block_shape),
            **self.device_identity,
        }

    def prepare(self) -> None:
        """Create affinities.zarr unless it is there."""
        card = open_bundle(self.model).card
        if not self.workspace.affinities.exists():
            create_array(
                self.workspace.affinities,
                shape=(len(card.offsets), *self.lattice.volume_shape),
                dtype=np.uint8,
                block=self.lattice.block_shape,
                attributes={
                    **array_attributes(self.raw.voxel_size_nm, self.raw.offset_nm),
                    "axis_names": ["c^", "z", "y", "x"],
                    "offsets": [list(offset) for offset in card.offsets],
                },
            )
        require_aligned(open_array(self.workspace.affinities), self.lattice.block_shape, self.name)

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Load the model once; tiles are read and blocks are written while the network computes."""
        from neuroseg.affinities.inference import Predictor, TileSettings, begin_region, choose_device

        bundle = open_bundle(self.model)
        card = bundle.card
        settings = TileSettings(
            card.tile.output_voxels,
            card.tile.context_voxels,
            card.tile.batch,
            card.raw_scale,
            len(card.offsets),
            self.blend,
        )
        predictor = Predictor(bundle.network(), settings, choose_device(self.device))
        read, shape = self.raw.open(), self.lattice.volume_shape
        output = open_array(self.workspace.affinities, writable=True)
        inside = self.mask.open() if self.mask else None

        def process(block: Block) -> Finish:
            compute_rest = begin_region(predictor, read, shape, settings, block.write_roi)

            def finish() -> None:
                affinities = compute_rest()
                if inside is not None:
                    affinities[:, ~inside(block.write_roi)] = 0
                output[(slice(None), *slices(block.write_roi))] = affinities

            return finish

        yield process
