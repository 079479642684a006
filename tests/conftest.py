"""What tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import HealthCheck, settings
from scipy import ndimage

from neuroseg.networks.architectures import build_network
from neuroseg.networks.bundle import save_bundle
from neuroseg.networks.card import Card, NetworkCard, TileCard

# Compiling and slow shared machines make deadlines meaningless; the examples are chosen the same way on every run.
settings.register_profile(
    "neuroseg", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("neuroseg")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need a GPU where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real volumes beside the repository; skips where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real volumes (a folder shared/data beside the repository) are not here")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bundle with random weights, small enough that prediction costs nothing."""
    torch.manual_seed(0)
    parameters = {"widths": [4, 8], "outputs": 3}
    card = Card(
        name="tiny",
        network=NetworkCard(architecture="light", parameters=parameters),
        offsets=((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
        voxel_size_nm=(10, 10, 10),
        tile=TileCard(output_voxels=(16, 16, 16), context_voxels=(8, 8, 8)),
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_bundle(folder, card, build_network("light", parameters).state_dict())
    return str(folder)


@pytest.fixture
def raw_volume(tmp_path: Path) -> str:
    """A smooth random volume of 40 x 50 x 45 voxels, 10 nm, offset in space."""
    return make_volume(tmp_path / "V.zarr", (40, 50, 45))


@contextmanager
def temporary_kept() -> Iterator[None]:
    """Runs keep their temporary artifacts, as if they were killed before removing them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuroseg.runs.groups.remove_temporary", lambda *given: None)
        yield


@pytest.fixture
def keep_temporary() -> Iterator[None]:
    """As `temporary_kept`, for a whole test."""
    with temporary_kept():
        yield


def make_volume(path: Path, shape: tuple[int, ...], **attributes: object) -> str:
    """Write a smooth random uint8 zarr array with a voxel size and return its path."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(3).random(shape), 2)
    values = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    stated = {"voxel_size": [10, 10, 10], "offset": [100, 0, 50], **attributes}
    array = zarr.create_array(
        str(path), shape=shape, dtype="u1", chunks=tuple(min(32, size) for size in shape), attributes=stated
    )
    array[:] = values
    return str(path)
