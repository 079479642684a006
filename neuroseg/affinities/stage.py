"""The stages `sections` and `affinities`: raw volume (-> histograms of its sections) -> affinities.zarr."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from neuroseg.affinities.sections import GREY_VALUES, normalised, section_histograms, section_lookup
from neuroseg.affinities.tiles import box_of_windows, rounded_to_tiles
from neuroseg.affinities.turned_windows import Augmentation
from neuroseg.blocks import Block, Lattice, whole_lattice
from neuroseg.geometry import Triple
from neuroseg.networks.bundle import Bundle, open_bundle
from neuroseg.stage import Finish, Process
from neuroseg.storage.arrays import create_array, is_array, open_array, require_aligned, write_region
from neuroseg.storage.first import first_recorded, recorded_at
from neuroseg.storage.parts import part_path, read_parts, write_table
from neuroseg.storage.workspace import Workspace
from neuroseg.tables import SECTIONS
from neuroseg.volumes.mask import MaskSource
from neuroseg.volumes.metadata import array_attributes
from neuroseg.volumes.raw import RawSource

if TYPE_CHECKING:
    import torch

    from neuroseg.affinities.inference import Predictor

_SECTIONS_ALGORITHM = 1
_AFFINITIES_ALGORITHM = 2


@dataclass(frozen=True)
class SectionsStage:
    """Count the grey values of complete sections, so that normalised values do not depend on the region."""

    workspace: Workspace
    raw: RawSource
    requested: Lattice

    name = "sections"
    inputs = ("raw",)
    outputs = ("sections",)
    halo = (0, 0, 0)
    scope = ""

    @property
    def lattice(self) -> Lattice:
        """Slabs of the whole volume, each as deep as a requested block."""
        shape = self.requested.volume_shape
        return whole_lattice(shape, (self.requested.block_shape[0], *shape[1:]))

    @property
    def identity(self) -> Mapping[str, Any]:
        """Input, range of values and slabs."""
        return {
            "algorithm": _SECTIONS_ALGORITHM,
            "input": self.raw.identity,
            "value_range": list(self.raw.value_range) if self.raw.value_range else None,
            "slab_voxels": self.lattice.block_shape[0],
        }

    def prepare(self) -> None:
        """Do nothing: there is no array to create."""

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Open raw once. A slab is read in boxes of the requested block shape."""
        read, boxes = self.raw.open(), whole_lattice(self.requested.volume_shape, self.requested.block_shape)

        def process(block: Block) -> None:
            histograms = np.zeros((block.write_roi.shape[0], GREY_VALUES), np.uint64)
            for index in boxes.indices_touching(block.write_roi):
                histograms += section_histograms(read(boxes.block(index).write_roi))
            section, value = np.nonzero(histograms)
            counted = {
                "section": section + block.write_roi.begin[0],
                "value": value,
                "count": histograms[section, value],
            }
            table = {name: column.astype(SECTIONS[name]) for name, column in counted.items()}
            write_table(part_path(self.workspace.sections, block.index), table)

        yield process

    def lookup(self) -> NDArray[np.uint8]:
        """Return the new value of each grey value in each section, `(sections, 256)`, from all parts."""
        histograms = np.zeros((self.lattice.volume_shape[0], GREY_VALUES), np.uint64)
        for part in read_parts(self.workspace.sections, self.lattice.indices(), SECTIONS):
            histograms[part["section"], part["value"]] = part["count"]
        return section_lookup(histograms)


@dataclass(frozen=True)
class AffinitiesStage:
    """Predict affinities. A block contains whole tiles, so that no tile is computed twice."""

    workspace: Workspace
    raw: RawSource
    normalise: str
    model: str
    model_sha256: str
    device: str
    device_identity: Mapping[str, str]
    requested: Lattice
    tile: Triple
    blend: str
    augmentation: Augmentation
    mask: MaskSource | None

    name = "affinities"
    outputs = ("affinities.zarr",)
    halo = (0, 0, 0)
    scope = ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Raw, and the histograms of sections if sections are normalised."""
        return ("raw", "sections") if self.normalise == "sections" else ("raw",)

    @property
    def lattice(self) -> Lattice:
        """The requested blocks, rounded up to whole tiles, without blocks outside the mask."""
        block = rounded_to_tiles(self.requested.block_shape, self.tile)
        wanted = self.mask.touching() if self.mask else None
        return Lattice(self.requested.volume_shape, block, self.requested.roi, wanted)

    @property
    def bundle(self) -> Bundle:
        """The model, with the tile that the run's device uses."""
        return open_bundle(self.model).on(self.device)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Input, model, blend and device. Tile and batch are part of the hash of the model."""
        return {
            "algorithm": _AFFINITIES_ALGORITHM,
            "model": self.model_sha256,
            "input": self.raw.identity,
            "blend": self.blend,
            "tta": str(self.augmentation),
            "mask": self.mask.identity if self.mask else None,
            "value_range": list(self.raw.value_range) if self.raw.value_range else None,
            "normalise": self.normalise,
            "block_voxels": list(self.lattice.block_shape),
            **self.device_identity,
        }

    def prepare(self) -> None:
        """Create affinities.zarr if it does not exist."""
        card = self.bundle.card
        if not is_array(self.workspace.affinities):
            create_array(
                self.workspace.affinities,
                shape=(len(card.offsets), *self.lattice.volume_shape),
                dtype=np.uint8,
                block=self.lattice.block_shape,
                attributes={
                    **array_attributes(self.raw.voxel_size_nm, self.raw.offset_nm, channels=True),
                    "offsets": [list(offset) for offset in card.offsets],
                },
            )
        require_aligned(open_array(self.workspace.affinities), self.lattice.block_shape, self.name)

    @contextmanager
    def open(self) -> Iterator[Process]:
        """Load the model once. Blocks are written, and on a GPU also read, while the network computes another one."""
        from neuroseg.affinities.device import decoding_threads
        from neuroseg.affinities.gpus import computing_device

        with computing_device(self.device) as device:
            predictor = self._predictor(device)
            shape = self.lattice.volume_shape
            tiles = predictor.settings.tiles(Roi((0, 0, 0), self.lattice.block_shape))
            around = box_of_windows(tiles, predictor.settings.context)
            read = self._reader(around.shape, decoding_threads(device))
            output = open_array(self.workspace.affinities, writable=True)
            inside = self.mask.open() if self.mask else None

            def process(block: Block) -> Finish:
                compute = predictor.begin(read, shape, block.write_roi)

                def finish() -> None:
                    affinities = compute()
                    if inside is not None:
                        affinities[:, ~inside(block.write_roi)] = 0
                    write_region(output, block.write_roi, affinities)

                return finish

            yield process

    def _predictor(self, device: torch.device) -> Predictor:
        """Return the predictor. Raises NeurosegError if the device would give other bytes than the rest of the run."""
        from neuroseg.affinities.batches import fits, gpu_memory, largest_batch, require_fit
        from neuroseg.affinities.device import device_identity, gpu_kind, require_device
        from neuroseg.affinities.predictors import open_predictor

        require_device(device_identity(device), self.device_identity, self.workspace.path / "run.yaml")
        opened = partial(open_predictor, self.bundle, device, self.blend, self.augmentation)
        if device.type == "cpu":
            return opened()
        record, kind = self.workspace.path / "ledger" / self.name / "gpu.yaml", gpu_kind(device)
        recorded = recorded_at(record)
        require_device(kind, recorded, record)
        predictor = opened()
        fits_batch, memory = partial(fits, predictor, device, self.lattice.block_shape), partial(gpu_memory, device)
        if not recorded:
            batch = largest_batch(predictor.settings.batch, fits_batch, memory)
            recorded = first_recorded(record, {**kind, "batch": str(batch)})
            require_device(kind, recorded, record)
        require_fit(int(recorded["batch"]), fits_batch, memory, record)
        return predictor

    def _reader(self, region: Sequence[int], threads: int) -> Callable[[Roi], NDArray[np.uint8]]:
        """Return a function that reads regions of this shape from raw, normalised if requested."""
        read = self.raw.open(region, threads)
        if self.normalise == "none":
            return read
        lookup = SectionsStage(self.workspace, self.raw, self.requested).lookup()
        return lambda roi: normalised(read(roi), lookup[roi.begin[0] : roi.end[0]])
