"""The networks and volumes that are measured: bundles with random weights, and synthetic neuropil."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from funlib.geometry import Roi

from neuroseg.affinities.device import choose_device
from neuroseg.affinities.inference import TileSettings
from neuroseg.affinities.tiles import rounded_to_tiles
from neuroseg.blocks import Lattice
from neuroseg.geometry import Triple, whole
from neuroseg.networks.architectures import build_network
from neuroseg.networks.bundle import Bundle, open_bundle, save_bundle
from neuroseg.networks.card import Card, NetworkCard, TileCard
from neuroseg.networks.wide_tile import gpu_tile
from neuroseg.networks.windows import WindowRule
from neuroseg.views.synthetic import VOXEL_SIZE_NM, synthetic_volume
from neuroseg.volumes.raw import RawSource

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
# Edges of volume and block in voxels. On a CPU, a block has few windows.
GPU_EDGE, GPU_BLOCK = 1024, 256
CPU_EDGE, CPU_BLOCK = 256, 10
CHUNK = 64
# The tissue that is drawn, whole chunks: it contains several training patches. The large volume repeats it.
TISSUE: Triple = (64, 192, 192)
_SEED = 1


@dataclass(frozen=True)
class RandomModel:
    """A network with random weights, and its tiles. On a GPU they are wider, as in the cards of trained models."""

    output: Triple
    context: Triple
    parameters: Mapping[str, Any] = field(default_factory=dict)


RANDOM_MODELS = {
    "superhuman": RandomModel((10, 80, 80), (4, 40, 40)),
    "mala": RandomModel((25, 56, 56), (14, 106, 106)),
}
BUNDLED_MODELS = {"light": "fib25_light"}


@dataclass(frozen=True)
class Bench:
    """The folder with volumes and models, the device with its name as an option, and edges of volume and block."""

    folder: Path
    device_name: str
    device: torch.device
    edge: int
    block: int

    @property
    def raw(self) -> Path:
        """Zarr array (z, y, x) uint8, chunks of 64."""
        return self.folder / f"raw{self.edge}.zarr"

    @property
    def tissue(self) -> tuple[Path, Path]:
        """Zarr arrays with raw and labels of a small volume."""
        return self.folder / "tissue.zarr", self.folder / "labels.zarr"

    @property
    def shape(self) -> Triple:
        """The shape of raw."""
        return (self.edge, self.edge, self.edge)

    def bundle(self, name: str) -> Bundle:
        """Return the bundle of a model by its name."""
        return open_bundle(BUNDLED_MODELS.get(name, str(self.folder / "models" / name)))

    def source(self) -> RawSource:
        """Return raw as prediction reads it."""
        return RawSource(str(self.raw), 0, VOXEL_SIZE_NM, (0, 0, 0), None, "")

    def lattice(self, settings: TileSettings, roi: Roi | None = None) -> Lattice:
        """Return the blocks of the volume, or of a part of it, as prediction cuts them."""
        block = rounded_to_tiles((self.block,) * 3, settings.output)
        return Lattice(self.shape, block, roi or whole(self.shape))


def prepared(folder: Path, device_name: str, edge: int | None) -> Bench:
    """Return the folder with its volumes and models. Create those that are missing."""
    device = choose_device(device_name)
    edges = (GPU_EDGE, GPU_BLOCK) if device.type == "cuda" else (CPU_EDGE, CPU_BLOCK)
    bench = Bench(folder, device_name, device, edge or edges[0], edges[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in RANDOM_MODELS.items():
        _save_model(folder / "models" / name, name, model)
    if not bench.raw.exists() or not all(path.exists() for path in bench.tissue):
        _write_volumes(bench)
    return bench


def _save_model(folder: Path, name: str, model: RandomModel) -> None:
    torch.manual_seed(_SEED)
    network = build_network(name, model.parameters)
    tile = TileCard(output_voxels=model.output, context_voxels=model.context)
    assert isinstance(network.windows, WindowRule)
    card = Card(
        name=name,
        network=NetworkCard(architecture=name, parameters=dict(model.parameters)),
        offsets=OFFSETS,
        voxel_size_nm=VOXEL_SIZE_NM,
        tile=tile,
        gpu_tile=gpu_tile(network.windows, tile),
    )
    save_bundle(folder, card, network.state_dict())


def _write_volumes(bench: Bench) -> None:
    """Write the small volume with its labels, and the large one, whose chunks are copies of those of the small one."""
    made = synthetic_volume(TISSUE, _SEED)
    tissue = bench.tissue[0]
    for path, values in zip(bench.tissue, (made.raw, made.labels), strict=True):
        _create(path, TISSUE, values.dtype)[:] = values
    _create(bench.raw, bench.shape, made.raw.dtype)
    period = [size // CHUNK for size in TISSUE]
    for cell in np.ndindex(*(-(-size // CHUNK) for size in bench.shape)):
        source, target = tissue / "c", bench.raw / "c"
        for at, count in zip(cell, period, strict=True):
            source, target = source / str(at % count), target / str(at)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _create(path: Path, shape: Triple, dtype: np.dtype[Any]) -> Any:
    attributes = {"voxel_size": list(VOXEL_SIZE_NM)}
    return zarr.create_array(
        str(path), shape=shape, dtype=dtype, chunks=(CHUNK,) * 3, attributes=attributes, overwrite=True
    )
