"""Validation scores only its region. The surroundings can connect parts of an object."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from torch import nn

from neuroseg.networks.orientations import orientations
from neuroseg.networks.windows import WindowRule
from neuroseg.training.data.affinity_targets import UNLABELLED
from neuroseg.training.data.labelled import OpenedVolume, open_labelled, read_labelled
from neuroseg.training.data_settings import VolumeSettings
from neuroseg.training.judging.validate_network import validate
from neuroseg.training.settings import TrainingSettings


class Bright(nn.Module):
    """A network that links bright voxels and accepts windows of any size."""

    windows = WindowRule((1, 1, 1))

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        return (raw - 0.5).repeat(1, 3, 1, 1, 1) * 40.0


@pytest.fixture
def arch(tmp_path: Path) -> OpenedVolume:
    """One object with two legs in sections 4 to 15, connected in sections 0 to 3."""
    labels = np.ones((16, 12, 24), np.uint64)
    labels[4:, :, 10:14] = 0
    for name, array in (("raw", (labels * 255).astype(np.uint8)), ("labels", labels)):
        stored = zarr.create_array(
            str(tmp_path / f"{name}.zarr"), shape=array.shape, dtype=array.dtype, attributes={"voxel_size": [8, 8, 8]}
        )
        stored[:] = array
    return open_labelled(VolumeSettings(raw="raw.zarr", labels="labels.zarr", region="8:16,:,:"), (str(tmp_path),))


def settings(surround: tuple[int, int, int]) -> TrainingSettings:
    volume = {"raw": "raw.zarr", "labels": "labels.zarr"}
    return TrainingSettings.model_validate(
        {
            "name": "arch",
            "data": {"training": [volume], "validation": volume},
            "optimiser": {"steps": 1, "patch_voxels": [8, 8, 8]},
            "validation": {"scorings": ["mean"], "tile_voxels": [8, 8, 8], "context_voxels": [0, 0, 0],
                           "surround_voxels": surround},
        }
    )  # fmt: skip


def test_raw_around_labelled_sections_has_no_targets(arch: OpenedVolume) -> None:
    turned = orientations("in_plane")
    mirrored = read_labelled(arch, patch=(12, 8, 8), turned=turned, descriptor_sigma_nm=0)
    assert mirrored.raw.shape == (12, 12, 24)
    assert (mirrored.raw[:2] == mirrored.raw[3:5][::-1]).all(), "half of what is missing on each side"
    assert (mirrored.raw[10:] == mirrored.raw[7:9][::-1]).all()
    within = read_labelled(
        replace(arch, surround=(6, 0, 0)), patch=(12, 8, 8), turned=turned, descriptor_sigma_nm=16
    )  # fmt: skip
    assert within.raw.shape == (20, 12, 24)
    assert (within.raw[14:] == within.raw[7:13][::-1]).all(), "mirrored: the volume ends there"
    assert (within.labels[14:] == UNLABELLED).all()
    assert (within.raw[:2, :, 10:14] == 255).all(), "the bridge of sections 2 and 3 is seen"
    assert (within.labels[:6] == UNLABELLED).all()
    assert set(np.unique(within.labels[6:14])) == {0, 1}
    assert within.descriptors is not None
    assert not within.descriptors[:, :6].any()


def test_surroundings_connect_parts_of_an_object(arch: OpenedVolume) -> None:
    device = torch.device("cpu")
    (alone,) = validate(Bright(), arch, settings((0, 0, 0)), device).choices
    (within,) = validate(Bright(), arch, settings((8, 0, 0)), device).choices
    assert alone.scores.voi_split == pytest.approx(1.0)
    assert within.scores.voi_sum == 0.0


def test_surroundings_are_cut_to_the_volume(arch: OpenedVolume) -> None:
    (far,) = validate(Bright(), arch, settings((1000, 1000, 1000)), torch.device("cpu")).choices
    assert far.scores.voi_sum == 0.0


def test_negative_surroundings_are_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        settings((-1, 0, 0))
