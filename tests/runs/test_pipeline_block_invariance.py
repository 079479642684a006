"""Block invariance end to end: all artifacts have the same bytes for any block size."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from scipy import ndimage

from neuroseg.evaluation.artifacts import compared
from neuroseg.networks.architectures import build_network
from neuroseg.networks.bundle import save_bundle
from neuroseg.networks.card import Card, NetworkCard, TileCard
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from tests.conftest import make_volume

OFFSETS = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]


def assert_same(one: Workspace, other: Workspace) -> None:
    differences = {name: found for name, found in compared(one, other) if found}
    assert not differences


def superhuman_model(folder: Path, parameters: dict[str, Any]) -> str:
    """A bundle of the superhuman network with random weights and a small window."""
    torch.manual_seed(1)
    card = Card(
        name="superhuman",
        network=NetworkCard(architecture="superhuman", parameters=parameters),
        offsets=((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
        voxel_size_nm=(30, 6, 6),
        tile=TileCard(output_voxels=(4, 16, 16), context_voxels=(1, 8, 8)),
    )
    save_bundle(folder, card, build_network("superhuman", parameters).state_dict())
    return str(folder)


NETWORKS = ("light", "narrow superhuman", "superhuman")
CUTS = {
    "odd blocks": {"blocks": "8,21,17", "executor": "serial"},
    "two workers": {"blocks": "8,16,33", "executor": "local", "workers": 2},
}
# One run that starts processes is quick enough for every day; the network of full width is not.
LONG = {
    ("light", "centre", "two workers"), ("light", "gaussian", "two workers"),
    ("narrow superhuman", "centre", "two workers"), *itertools.product(["superhuman"], ["centre", "gaussian"], CUTS),
}  # fmt: skip
CASES = [
    pytest.param(*case, marks=[pytest.mark.long] if case in LONG else [])
    for case in itertools.product(NETWORKS, ("centre", "gaussian"), CUTS)
]


@pytest.mark.parametrize(("network", "blend", "cut"), CASES)
def test_from_raw_for_both_networks_and_blends(
    network: str, blend: str, cut: str, tiny_model: str, tmp_path: Path
) -> None:
    model, size = tiny_model, [10, 10, 10]
    if network != "light":
        widths = {"widths": [2, 3, 4, 5, 6]} if network == "narrow superhuman" else {}
        model, size = superhuman_model(tmp_path / "model", widths), [30, 6, 6]
    volume = make_volume(tmp_path / "V.zarr", (9, 37, 50), voxel_size=size, offset=[70, -20, 5])

    def made(name: str, **more: object) -> Workspace:
        given = {"volume": volume, "model": model, "blend": blend, "output": str(tmp_path / name), **more}
        return pipeline.run(Options.model_validate(given))[0]

    whole = made("whole", blocks="64", executor="serial")
    assert len(np.unique(open_array(whole.fragments)[:])) > 5
    assert_same(whole, made("cut", **CUTS[cut]))


def smooth() -> np.ndarray:
    values = ndimage.gaussian_filter(np.random.default_rng(8).random((3, 33, 47, 70)), (0, 1.5, 2, 2))
    return np.round(255 * (values - values.min()) / np.ptp(values)).astype(np.uint8)


def blank_soma() -> np.ndarray:
    affinities = smooth()
    z, y, x = np.ogrid[:33, :47, :70]
    affinities[:, ((z - 16) / 14) ** 2 + ((y - 24) / 20) ** 2 + ((x - 35) / 30) ** 2 < 1] = 255
    return affinities


def tube_through_ten_blocks() -> np.ndarray:
    affinities = np.zeros((3, 7, 9, 160), np.uint8)
    affinities[:, 2:5, 3:6] = 255
    return affinities


VOLUMES = {
    "smooth": (smooth, "14,20,33"),
    "blank soma": (blank_soma, "14,20,33"),
    "all black": (lambda: np.zeros((3, 20, 30, 25), np.uint8), "7,11,13"),
    "all white": (lambda: np.full((3, 20, 30, 25), 255, np.uint8), "7,11,13"),
    "tube": (tube_through_ten_blocks, "7,9,16"),
    "one section": (lambda: smooth()[:, :1], "1,15,20"),
    "one voxel wide": (lambda: smooth()[:, :, :, :1], "9,15,1"),
    "one voxel": (lambda: smooth()[:, :1, :1, :1], "1,1,1"),
    "long and odd": (lambda: smooth()[:, :3, :5, :67], "2,3,7"),
}


# Of the quantiles two volumes are quick enough for every day.
SCORED = [
    *((name, "mean") for name in VOLUMES),
    *(
        pytest.param(name, "quantile:50", marks=[] if name in ("smooth", "long and odd") else [pytest.mark.long])
        for name in VOLUMES
    ),
]


@pytest.mark.parametrize(("name", "scoring"), SCORED)
def test_from_affinities_however_odd(name: str, scoring: str, tmp_path: Path) -> None:
    make, blocks = VOLUMES[name]
    affinities = make()
    attributes = {"offsets": OFFSETS, "voxel_size": [10, 10, 10], "offset": [5, 0, -15]}
    array = zarr.create_array(str(tmp_path / "A.zarr"), shape=affinities.shape, dtype="u1", attributes=attributes)
    array[:] = affinities

    def made(folder: str, blocks: str) -> Workspace:
        given = {"affinities": str(tmp_path / "A.zarr"), "output": str(tmp_path / folder), "executor": "serial"}
        return pipeline.segment(Options.model_validate({**given, "blocks": blocks, "scoring": scoring}))[0]

    whole, cut = made("whole", "256"), made("cut", blocks)
    assert_same(whole, cut)
    assert open_array(cut.segmentation / "0")[:].all()


def test_per_section_fragments_of_anisotropic_affinities(tmp_path: Path) -> None:
    attributes = {"offsets": OFFSETS, "voxel_size": [40, 8, 8]}
    array = zarr.create_array(str(tmp_path / "A.zarr"), shape=(3, 33, 47, 70), dtype="u1", attributes=attributes)
    array[:] = smooth()
    made = []
    for folder, blocks in (("whole", "256"), ("cut", "5,20,33"), ("slabs", "1,64,64")):
        given = Options(affinities=str(tmp_path / "A.zarr"), output=str(tmp_path / folder), blocks=blocks)
        made.append(pipeline.segment(given.model_copy(update={"executor": "serial"}))[0])
    for other in made[1:]:
        assert_same(made[0], other)
