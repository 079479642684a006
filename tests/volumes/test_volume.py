"""Volumes open from any of the layouts in use; alignment is enforced."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from funlib.geometry import Roi

from neuroseg.errors import InputError, NeurosegError
from neuroseg.storage.arrays import create_array, inner_chunk, open_array, require_aligned
from neuroseg.volumes.affinity_source import affinities_of_interior, open_affinities, open_boundaries
from neuroseg.volumes.volume import create_volume, open_volume


def test_a_created_volume_is_ome_ngff_with_its_place(tmp_path: Path) -> None:
    create_volume(
        tmp_path / "V.zarr", shape=(20, 30, 40), dtype=np.uint8, block=(64, 64, 64), voxel_size_nm=(30, 6.3, 6.3),
        offset_nm=(60, 0, 12.6),
    )  # fmt: skip
    volume = open_volume(str(tmp_path / "V.zarr"))
    assert (volume.shape, volume.voxel_size_nm, volume.offset_nm) == ((20, 30, 40), (30, 6.3, 6.3), (60, 0, 12.6))
    ome = zarr.open_group(str(tmp_path / "V.zarr"), mode="r").attrs["ome"]
    assert ome["multiscales"][0]["axes"][0] == {"name": "z", "type": "space", "unit": "nanometer"}


def test_ome_levels_of_version_0_4_squeeze_time_and_channel(tmp_path: Path) -> None:
    group = zarr.create_group(str(tmp_path / "V.zarr"), zarr_format=2)
    group.create_array("s1", shape=(1, 1, 4, 5, 6), dtype="u1")[:] = 9
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    scale = {"type": "scale", "scale": [1, 1, 0.03, 0.006, 0.006]}
    datasets = [{"path": "s1", "coordinateTransformations": [scale]}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    volume = open_volume(str(tmp_path / "V.zarr"))
    assert volume.shape == (4, 5, 6)
    assert volume.voxel_size_nm == pytest.approx((30, 6, 6))
    assert volume.read(Roi((0, 0, 0), (1, 2, 2))).tolist() == [[[9, 9], [9, 9]]]


def test_a_bare_5d_array_is_refused(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "V.zarr"), shape=(1, 1, 4, 5, 6), dtype="u1")
    with pytest.raises(InputError, match="5D array"):
        open_volume(str(tmp_path / "V.zarr"))


@pytest.mark.parametrize(("block", "chunk"), [(256, 64), (64, 64), (100, 50), (96, 48), (97, 97), (5, 5), (131, 131)])
def test_chunks_divide_blocks(block: int, chunk: int) -> None:
    assert inner_chunk(block) == chunk


def test_blocks_that_cut_shards_are_refused(tmp_path: Path) -> None:
    create_array(tmp_path / "a", shape=(300, 300, 300), dtype=np.uint8, block=(128, 128, 128), attributes={})
    array = open_array(tmp_path / "a")
    require_aligned(array, (256, 128, 128), "fragments")
    with pytest.raises(NeurosegError, match="not a multiple of the shard shape"):
        require_aligned(array, (128, 64, 128), "fragments")


def test_boundaries_become_the_smaller_of_two_interiors(tmp_path: Path) -> None:
    inside = np.array([[[10, 40, 20]]], np.uint8)
    made = affinities_of_interior(inside, (0, 0, 0))
    assert made[2].tolist() == [[[10, 10, 20]]]
    assert made[0].tolist() == made[1].tolist() == inside.tolist()


def test_a_region_of_a_boundary_map_has_the_affinities_of_the_whole(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((7, 8, 9)).astype(np.float32)
    array = zarr.create_array(str(tmp_path / "b"), shape=values.shape, dtype="f4", attributes={"voxel_size": [1, 1, 1]})
    array[:] = values
    read = open_boundaries(str(tmp_path / "b"), None).open()
    complete = read(Roi((0, 0, 0), (7, 8, 9)))
    assert np.array_equal(read(Roi((2, 0, 5), (3, 8, 4))), complete[:, 2:5, :, 5:9])
    expected = np.floor(255 * (1 - np.maximum(values[1:], values[:-1])) + np.float32(0.5))
    assert np.abs(complete[0, 1:] - expected).max() == 0


def test_affinities_without_offsets_ask_for_them(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a"), shape=(3, 4, 5, 6), dtype="u1", attributes={"voxel_size": [1, 1, 1]})
    with pytest.raises(InputError, match="--offsets"):
        open_affinities(str(tmp_path / "a"), None, None)
    with pytest.raises(InputError, match="3 channels but 2 offsets"):
        open_affinities(str(tmp_path / "a"), "-1,0,0;0,-1,0", None)


def test_affinities_out_of_range_name_the_place(tmp_path: Path) -> None:
    array = zarr.create_array(str(tmp_path / "a"), shape=(3, 4, 5, 6), dtype="f4")
    array[:] = 0.5
    offsets = "-1,0,0;0,-1,0;0,0,-1"
    source = open_affinities(str(tmp_path / "a"), offsets, (1, 1, 1))
    array[1, 2, 3, 4] = np.nan
    assert source.open()(Roi((0, 0, 0), (2, 5, 6))).max() == 128
    where = r"channel 1, voxel \(2, 3, 4\) \(z, y, x\) is nan"
    with pytest.raises(
        InputError,
        match=rf"{where}.* 2 x 5 x 6 voxels from \(2, 0, 0\), 1 are unusable \(values 0.5 to 0.5, 1 not finite",
    ):
        source.open()(Roi((2, 0, 0), (2, 5, 6)))
    with pytest.raises(InputError, match=where):
        open_affinities(str(tmp_path / "a"), offsets, (1, 1, 1))
