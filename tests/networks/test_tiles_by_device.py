"""Each kind of device has its own tile, and the identity of a run contains only the one that it uses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from neuroseg.affinities.predictors import open_predictor
from neuroseg.affinities.stage import AffinitiesStage
from neuroseg.errors import InputError
from neuroseg.execution.cluster.site import Cluster, Resources, Site
from neuroseg.networks.bundle import open_bundle, save_copy
from neuroseg.runs.measuring import work_of
from neuroseg.runs.options import Options
from neuroseg.runs.resolve import plan_of_run

WIDE = {"output_voxels": [24, 32, 32], "context_voxels": [4, 8, 8], "batch": 2, "blend": "gaussian"}


@pytest.fixture
def wide(tiny_model: str, tmp_path: Path) -> str:
    """The tiny model with a tile for GPUs."""
    folder = tmp_path / "wide"
    shutil.copytree(tiny_model, folder)
    card = yaml.safe_load((folder / "card.yaml").read_text())
    (folder / "card.yaml").write_text(yaml.safe_dump({**card, "gpu_tile": WIDE}, sort_keys=False))
    return str(folder)


def stage(model: str, raw_volume: str, folder: Path, **options: str) -> AffinitiesStage:
    given = {"volume": raw_volume, "model": model, "output": str(folder / "w"), "blocks": "32", **options}
    site = Site(stages={"affinities": Resources(gpus=1)})
    workspace, plan, _ = plan_of_run(Options.model_validate(given), Cluster(site))
    return plan.affinities_stage(workspace)


def test_a_tile_for_gpus_does_not_change_the_identity_on_cpus(tiny_model: str, wide: str) -> None:
    assert open_bundle(wide).sha256 == open_bundle(wide).on("cpu").sha256 == open_bundle(tiny_model).sha256
    assert open_bundle(wide).on("cuda").sha256 != open_bundle(tiny_model).sha256
    assert open_bundle(tiny_model).on("cuda").sha256 == open_bundle(tiny_model).sha256


def test_the_identity_on_gpus_contains_the_tile_for_gpus_only(tiny_model: str, wide: str, tmp_path: Path) -> None:
    card = open_bundle(wide).card
    assert card.gpu_tile is not None
    other = card.model_copy(update={"tile": card.tile.model_copy(update={"batch": 3})})
    save_copy(tmp_path / "other", other, open_bundle(wide))
    assert open_bundle(str(tmp_path / "other")).on("cuda").sha256 == open_bundle(wide).on("cuda").sha256
    assert open_bundle(str(tmp_path / "other")).sha256 != open_bundle(wide).sha256
    as_tile = card.model_copy(update={"tile": card.gpu_tile, "gpu_tile": None})
    save_copy(tmp_path / "same", as_tile, open_bundle(wide))
    assert open_bundle(str(tmp_path / "same")).sha256 == open_bundle(wide).on("cuda").sha256


def test_the_bundled_model_has_its_first_identity_on_cpus() -> None:
    """A changed hash would refuse to resume every prediction made with the model."""
    bundle = open_bundle("fib25_light")
    assert bundle.on("cpu").sha256 == "5060f013acb6a15a09f2f148f43381463ebb4f3361b1ffc4927b7905f5c21ae9"
    assert bundle.card.gpu_tile is not None
    assert bundle.card.gpu_tile.computed_per_kept <= 2
    bundle.check()


def test_a_run_uses_the_tile_of_its_device(wide: str, tiny_model: str, raw_volume: str, tmp_path: Path) -> None:
    on_cpu = stage(wide, raw_volume, tmp_path, device="cpu")
    assert (on_cpu.tile, on_cpu.blend, on_cpu.lattice.block_shape) == ((16, 16, 16), "centre", (32, 32, 32))
    assert on_cpu.bundle.card.tile.batch == 1
    plain = stage(tiny_model, raw_volume, tmp_path, device="cpu")
    assert on_cpu.identity == plain.identity
    # Jobs of a cluster have the GPU, so the plan needs none here.
    on_gpu = stage(wide, raw_volume, tmp_path, device="cuda", executor="slurm")
    assert (on_gpu.tile, on_gpu.blend, on_gpu.lattice.block_shape) == ((24, 32, 32), "gaussian", (48, 32, 32))
    assert on_gpu.bundle.card.tile.batch == 2
    assert on_gpu.identity["model"] != on_cpu.identity["model"]
    assert work_of(on_gpu)(1, 32, 64) == 3 * 32, "windows of the tiles on both sides reach into the block"
    assert work_of(on_cpu)(1, 32, 64) == 32
    assert stage(wide, raw_volume, tmp_path, device="cuda", executor="slurm", blend="centre").blend == "centre"


def test_a_predictor_has_the_tile_of_its_device(wide: str) -> None:
    bundle = open_bundle(wide)
    assert open_predictor(bundle, torch.device("cpu")).settings.output == (16, 16, 16)
    # The device meta computes nothing; like a GPU, it is not a CPU.
    there = open_predictor(bundle, torch.device("meta")).settings
    assert (there.output, there.context, there.batch, there.blend) == ((24, 32, 32), (4, 8, 8), 2, "gaussian")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("output_voxels", [1024, 1024, 1024], r"gpu_tile.*at most 134217728"),
        ("output_voxels", [23, 32, 32], r"card.yaml: gpu_tile: the network does not accept windows of \[31, 48, 48\]"),
        ("batch", 0, r"gpu_tile.batch = 0"),
        ("outputs", [1, 1, 1], r"gpu_tile.outputs|unknown key 'gpu_tile.outputs'"),
    ],
)
def test_a_bad_tile_for_gpus_is_refused_before_a_run(
    key: str, value: object, message: str, wide: str, raw_volume: str, tmp_path: Path
) -> None:
    path = Path(wide) / "card.yaml"
    card = yaml.safe_load(path.read_text())
    card["gpu_tile"][key] = value
    path.write_text(yaml.safe_dump(card))
    with pytest.raises(InputError, match=message):
        stage(wide, raw_volume, tmp_path, device="cpu")
