"""The stages `relabel` and `pyramid`: merge tree and fragments -> segmentation.zarr."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from funlib.geometry import Coordinate, Roi

from neuroseg.blocks import Block, Lattice
from neuroseg.geometry import Nanometres, Triple, describe, triple, whole
from neuroseg.segmentation.pyramid import Level, LevelsPass, passes_of
from neuroseg.segmentation.relabel import downsampled, relabelled
from neuroseg.stage import Process
from neuroseg.storage.arrays import create_array, is_array, open_array, read_region, require_aligned, write_region
from neuroseg.storage.parts import map_lookup
from neuroseg.storage.stored import DOWNSAMPLING
from neuroseg.storage.trees import Place, remove_all
from neuroseg.storage.workspace import Workspace
from neuroseg.volumes.metadata import array_attributes
from neuroseg.volumes.placement import Grid
from neuroseg.volumes.volume import create_volume, write_levels

ALGORITHM = 1
_NAME = "segmentation"  # name of the image in viewers


@dataclass(frozen=True)
class RelabelStage:
    """Write the segments of each block at full resolution. `aside`: the artifact of the unfinished segmentation."""

    workspace: Workspace
    aside: str
    lattice: Lattice
    upstream: str
    voxel_size_nm: Nanometres
    offset_nm: Nanometres

    name = "relabel"
    inputs = ("fragments.zarr", "merges/lookup.npy")
    halo = (0, 0, 0)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The full resolution of the unfinished segmentation."""
        return (f"{self.aside}/0",)

    @property
    def scope(self) -> str:
        """The region of interest, which contains all segments."""
        return describe(self.lattice.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The identity of the lookup."""
        return {"algorithm": ALGORITHM, "lookup": self.upstream}

    def prepare(self) -> None:
        """Create the label image if it does not exist."""
        aside = self.workspace.artifact(self.aside)
        if not is_array(aside / "0"):
            remove_all(aside)
            create_volume(
                aside,
                shape=self.lattice.volume_shape,
                dtype=np.uint64,
                block=self.lattice.block_shape,
                voxel_size_nm=self.voxel_size_nm,
                offset_nm=self.offset_nm,
                labels=True,
                name=_NAME,
            )
        require_aligned(open_array(aside / "0"), self.lattice.block_shape, self.name)

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Open the arrays and memory-map the lookup once."""
        fragments = open_array(self.workspace.fragments)
        output = open_array(self.workspace.artifact(self.aside) / "0", writable=True)
        lookup = map_lookup(self.workspace.lookup)

        def process(block: Block) -> None:
            write_region(output, block.write_roi, relabelled(read_region(fragments, block.write_roi), lookup))

        yield process


@dataclass(frozen=True)
class PyramidStage:
    """Write several levels of the pyramid from one finer level: each block writes its part of all of them.

    `lattice`: blocks of the pass, in voxels of full resolution. `every`: downsampling of all levels of the pyramid.
    """

    workspace: Workspace
    aside: str
    levels: LevelsPass
    every: tuple[Triple, ...]
    lattice: Lattice
    upstream: str
    voxel_size_nm: Nanometres
    offset_nm: Nanometres

    halo = (0, 0, 0)

    @property
    def name(self) -> str:
        """`pyramid`. In a very large volume, a second pass begins at a coarse level: `pyramid-8`."""
        return "pyramid" if self.levels.source == 0 else f"pyramid-{self.levels.source + 1}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The finer level."""
        return (f"{self.aside}/{self.levels.source}",)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The levels of the unfinished segmentation."""
        return tuple(f"{self.aside}/{level.number}" for level in self.levels.levels)

    @property
    def scope(self) -> str:
        """The region of interest."""
        return describe(self.lattice.roi)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The identity of full resolution, and the downsampling of each level."""
        return {"algorithm": ALGORITHM, "finest": self.upstream, "levels": [list(factors) for factors in self.every]}

    def prepare(self) -> None:
        """Create the levels that do not exist."""
        for level in self.levels.levels:
            place = self._place_of(level.number)
            if is_array(place):
                continue
            z, y, x = (edge * factor for edge, factor in zip(self.voxel_size_nm, level.factors, strict=True))
            create_array(
                place,
                shape=_coarser(whole(self.lattice.volume_shape), level.factors).shape,
                dtype=np.uint64,
                block=level.shard,
                attributes={**array_attributes((z, y, x), self.offset_nm), DOWNSAMPLING: list(level.factors)},
            )

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Open the levels once."""
        finest = open_array(self._place_of(self.levels.source))
        outputs = [open_array(self._place_of(level.number), writable=True) for level in self.levels.levels]

        def process(block: Block) -> None:
            finer, before = finest, self.levels.factors
            for level, output in zip(self.levels.levels, outputs, strict=True):
                _write_level(finer, output, level, before, block.write_roi)
                finer, before = output, level.factors

        yield process

    def _place_of(self, level: int) -> Place:
        return self.workspace.artifact(self.aside) / str(level)


def _write_level(finer: Any, output: Any, level: Level, before: Triple, region: Roi) -> None:
    """Downsample a region, in voxels of full resolution, shard by shard: a worker holds what one shard needs.

    `before`: downsampling of the array `finer`.
    """
    factors = triple([a // b for a, b in zip(level.factors, before, strict=True)])
    shape, bounds = triple(output.shape), whole(finer.shape)
    for shard in Lattice(shape, level.shard, _coarser(region, level.factors)).blocks():
        roi = shard.write_roi
        source = Roi(roi.begin * Coordinate(factors), roi.shape * Coordinate(factors)).intersect(bounds)
        write_region(output, roi, downsampled(read_region(finer, source), factors))


def _coarser(region: Roi, factors: Triple) -> Roi:
    """Return the voxels of a level that contain part of a region of full resolution."""
    begin = [b // f for b, f in zip(region.begin, factors, strict=True)]
    end = [-(-e // f) for e, f in zip(region.end, factors, strict=True)]
    return Roi(begin, [e - b for b, e in zip(begin, end, strict=True)])


def pyramid_stages(relabel: RelabelStage, upstream: str) -> list[PyramidStage]:
    """Return the stages that write the coarser levels of the segmentation: one, or several for a very large volume.

    `upstream`: the hash of the identity of `relabel`.
    """
    shape, roi = relabel.lattice.volume_shape, relabel.lattice.roi
    passes = passes_of(shape, relabel.voxel_size_nm, relabel.lattice.block_shape)
    every = tuple(level.factors for each in passes for level in each.levels)
    return [
        PyramidStage(
            relabel.workspace, relabel.aside, each, every, Lattice(shape, each.block_shape, roi), upstream,
            relabel.voxel_size_nm, relabel.offset_nm,
        )
        for each in passes
    ]  # fmt: skip


def finish_metadata(
    relabel: RelabelStage, stages: Sequence[PyramidStage], grid: Grid, made_by: Mapping[str, Any]
) -> None:
    """Write the metadata of a finished segmentation: the levels of its pyramid, and `made_by`, its settings.

    They are written to the image, which on a server contains the folder of the levels.
    """
    levels: list[tuple[int, Triple]] = [(0, (1, 1, 1))]
    levels += [(level.number, level.factors) for stage in stages for level in stage.levels.levels]
    image, _, folder = relabel.aside.partition("/")
    paths = [(f"{folder}/{number}" if folder else str(number), factors) for number, factors in levels]
    place = relabel.workspace.artifact(image)
    write_levels(place, paths, grid, labels=True, name=_NAME, more={"neuroseg": dict(made_by)})
