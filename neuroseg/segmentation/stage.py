"""The stages `relabel` and `pyramid`: merge tree and fragments -> segmentation.zarr."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from funlib.geometry import Coordinate, Roi

from neuroseg.blocks import Block, Lattice
from neuroseg.geometry import Nanometres, Triple, describe, slices, triple, whole
from neuroseg.segmentation.pyramid import level_factors
from neuroseg.segmentation.relabel import downsampled, relabelled
from neuroseg.stage import Process
from neuroseg.storage.arrays import create_array, is_array, open_array, require_aligned, write_region
from neuroseg.storage.parts import map_lookup
from neuroseg.storage.trees import Place, remove_all
from neuroseg.storage.workspace import Workspace
from neuroseg.volumes.metadata import array_attributes
from neuroseg.volumes.placement import Grid
from neuroseg.volumes.volume import create_volume, write_levels

ALGORITHM = 1
_NAME = "segmentation"  # name of the image in viewers


@dataclass(frozen=True)
class RelabelStage:
    """Write the segments of each block at full resolution. `aside`: the place of the unfinished segmentation."""

    workspace: Workspace
    aside: Place
    lattice: Lattice
    upstream: str
    voxel_size_nm: Nanometres
    offset_nm: Nanometres

    name = "relabel"
    inputs = ("fragments.zarr", "merges/lookup.npy")
    halo = (0, 0, 0)
    scale = (1, 1, 1)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The full resolution of the unfinished segmentation."""
        return (f"{self.aside.name}/0",)

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
        if not is_array(self.aside / "0"):
            remove_all(self.aside)
            create_volume(
                self.aside,
                shape=self.lattice.volume_shape,
                dtype=np.uint64,
                block=self.lattice.block_shape,
                voxel_size_nm=self.voxel_size_nm,
                offset_nm=self.offset_nm,
                labels=True,
                name=_NAME,
            )
        require_aligned(open_array(self.aside / "0"), self.lattice.block_shape, self.name)

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Open the arrays and memory-map the lookup once."""
        fragments = open_array(self.workspace.fragments)
        output = open_array(self.aside / "0", writable=True)
        lookup = map_lookup(self.workspace.lookup)

        def process(block: Block) -> None:
            box = slices(block.write_roi)
            write_region(output, block.write_roi, relabelled(np.asarray(fragments[box]), lookup))

        yield process


@dataclass(frozen=True)
class PyramidStage:
    """Downsample one level of the pyramid to the next one, in blocks of the coarser level.

    `factors`: downsampling from the finer level. `scale`: downsampling from full resolution.
    """

    aside: Place
    level: int
    factors: Triple
    scale: Triple
    finer_shape: Triple
    finer_roi: Roi
    block_shape: Triple
    upstream: str
    voxel_size_nm: Nanometres
    offset_nm: Nanometres

    halo = (0, 0, 0)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The finer level."""
        return (f"{self.aside.name}/{self.level - 1}",)

    @property
    def outputs(self) -> tuple[str, ...]:
        """This level of the unfinished segmentation."""
        return (f"{self.aside.name}/{self.level}",)

    @property
    def scope(self) -> str:
        """The region of interest at the finer level."""
        return describe(self.finer_roi)

    @property
    def name(self) -> str:
        """The name of the stage, one for each level."""
        return f"pyramid-{self.level}"

    @property
    def lattice(self) -> Lattice:
        """The blocks of the coarser level that overlap the region of interest."""
        shape = triple([-(-n // f) for n, f in zip(self.finer_shape, self.factors, strict=True)])
        begin = [b // f for b, f in zip(self.finer_roi.begin, self.factors, strict=True)]
        end = [-(-e // f) for e, f in zip(self.finer_roi.end, self.factors, strict=True)]
        return Lattice(shape, self.block_shape, Roi(begin, [e - b for b, e in zip(begin, end, strict=True)]))

    @property
    def identity(self) -> Mapping[str, Any]:
        """The identity of the finer level, and the factors."""
        return {"algorithm": ALGORITHM, "finer": self.upstream, "factors": list(self.factors)}

    def prepare(self) -> None:
        """Create the level if it does not exist."""
        path = self.aside / str(self.level)
        if not is_array(path):
            create_array(
                path,
                shape=self.lattice.volume_shape,
                dtype=np.uint64,
                block=self.block_shape,
                attributes=array_attributes(self.voxel_size_nm, self.offset_nm),
            )

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Open both levels once."""
        finer = open_array(self.aside / str(self.level - 1))
        output = open_array(self.aside / str(self.level), writable=True)
        factors, bounds = Coordinate(self.factors), whole(self.finer_shape)

        def process(block: Block) -> None:
            source = Roi(block.write_roi.begin * factors, block.write_roi.shape * factors).intersect(bounds)
            write_region(output, block.write_roi, downsampled(np.asarray(finer[slices(source)]), self.factors))

        yield process


def pyramid_stages(
    aside: Place, lattice: Lattice, upstream: str, voxel_size_nm: Nanometres, offset_nm: Nanometres
) -> list[PyramidStage]:
    """Return one stage per coarser level of the segmentation."""
    stages: list[PyramidStage] = []
    shape, roi, total = lattice.volume_shape, lattice.roi, Coordinate((1, 1, 1))
    for level, factors in enumerate(level_factors(shape, voxel_size_nm), start=1):
        total = total * Coordinate(factors)
        z, y, x = (edge * factor for edge, factor in zip(voxel_size_nm, total, strict=True))
        coarse, scale = (z, y, x), triple(total)
        stages.append(
            PyramidStage(aside, level, factors, scale, shape, roi, lattice.block_shape, upstream, coarse, offset_nm)
        )
        shape, roi = stages[-1].lattice.volume_shape, stages[-1].lattice.roi
    return stages


def finish_metadata(
    aside: Place,
    stages: list[PyramidStage],
    grid: Grid,
    made_by: Mapping[str, Any],
) -> None:
    """Write the metadata of a finished segmentation: the levels of its pyramid, and `made_by`, its settings."""
    levels: list[tuple[str, Triple]] = [("0", (1, 1, 1))]
    for stage in stages:
        before = levels[-1][1]
        levels.append((str(stage.level), triple([a * b for a, b in zip(before, stage.factors, strict=True)])))
    write_levels(aside, levels, grid, labels=True, name=_NAME, more={"neuroseg": dict(made_by)})
