"""The teacher's targets move with the tissue, are masked if unknown, and do not change the student."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
import zarr
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from neuroseg.errors import InputError
from neuroseg.networks.architectures import build_network
from neuroseg.training.data.unlabelled import Crops, open_unlabelled, perturbed_pair
from neuroseg.training.data_settings import UnlabelledSettings
from neuroseg.training.learning.consistency import (
    consistency_loss,
    consistency_weight,
    expected_affinities,
    frozen_statistics,
    mean_affinities,
)
from neuroseg.training.learning.records import load_checkpoint
from neuroseg.training.perturbations.draw import PUBLISHED, TURNS, UNTURNED
from neuroseg.training.settings import (
    ConsistencySettings,
    PerturbationSettings,
    TrainingSettings,
)
from neuroseg.training.train import open_training, samples_of, train
from tests.training.test_training import edited_section, interrupt_after

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
PLAIN = ConsistencySettings(teacher="ema")


class Certain(nn.Module):
    """A teacher that predicts the grey value of a voxel, as logit, for all three links."""

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        return ((raw - 0.5) * 8).repeat(1, 3, 1, 1, 1)


def batch(displacement: float = 0.0, turn: str | None = None) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    moved = torch.zeros(2, 2, 4, 8, 8)
    moved[0, 0, 2] = displacement
    turns = torch.tensor([TURNS["flip"][1] if turn else UNTURNED] * 2)
    return {"clean": torch.rand(2, 1, 4, 8, 8), "displacement": moved, "turn": turns}


def test_targets_move_with_the_tissue_of_a_crop() -> None:
    given = batch(displacement=2.0)
    found, mask = expected_affinities(Certain(), given, OFFSETS, PLAIN)
    said = torch.sigmoid(Certain()(given["clean"]))
    assert torch.allclose(found[1], said[1], atol=2e-2), "nothing moved in the second crop"
    assert torch.allclose(found[0, :, 2, :6], said[0, :, 2, 2:], atol=2e-2)
    assert not mask[0, 0, 2].any(), "links along z to the section before are torn"
    assert not mask[0, 0, 3].any(), "and those of the section after"
    assert mask[0, 1, 2, 1:6].all(), "those within the section are not"
    assert not mask[0, 1, 2, 6:].any(), "what came from outside is unknown"


def test_published_targets_do_not_move() -> None:
    settings = ConsistencySettings(teacher="ema", published=True)
    found, mask = expected_affinities(Certain(), batch(displacement=2.0), OFFSETS, settings)
    assert torch.allclose(found, torch.sigmoid(Certain()(batch()["clean"])), atol=2e-2)
    assert mask.all()


def test_targets_turn_with_the_tissue() -> None:
    given = batch(turn="flip")
    found, mask = expected_affinities(Certain(), given, OFFSETS, PLAIN)
    said = torch.sigmoid(Certain()(given["clean"]))
    assert torch.allclose(found[:, 0], said[:, 0].flip(-1), atol=2e-2)
    assert torch.allclose(found[:, 2, ..., 1:], said[:, 2].flip(-1)[..., :-1], atol=2e-2)
    assert not mask[:, 2, ..., 0].any()


class Alike(nn.Module):
    """A teacher that predicts how similar the voxels of a link are, in any orientation. Missing voxels are equal."""

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        first = [raw[:, 0].narrow(axis, 0, 1) for axis in (1, 2, 3)]
        steps = [torch.diff(raw[:, 0], dim=axis, prepend=edge) for axis, edge in zip((1, 2, 3), first, strict=True)]
        return torch.stack([2 - 8 * step.abs() for step in steps], dim=1)


class Leaning(nn.Module):
    """A teacher with higher affinities at the end of each axis than at its beginning."""

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        lean = sum(torch.linspace(-1, 1, size).view([-1 if a == axis else 1 for a in range(3)])
                   for axis, size in enumerate(raw.shape[2:]))  # fmt: skip
        return lean.expand(len(raw), 3, *raw.shape[2:])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_an_equivariant_teacher_predicts_the_same_in_each_orientation(count: int) -> None:
    clean = batch()["clean"]
    found, said = mean_affinities(Alike(), clean, OFFSETS, count), torch.sigmoid(Alike()(clean))
    assert found.shape == said.shape
    assert torch.allclose(found, said, atol=1e-6), "at the faces, too: where there is no link it says its own"


def test_the_bias_of_one_orientation_is_averaged_away() -> None:
    clean = torch.rand(2, 1, 6, 9, 9)
    alone, _, all_four = (mean_affinities(Leaning(), clean, OFFSETS, count) for count in (1, 2, 4))
    inner = (slice(None), slice(None), slice(1, None), slice(1, None), slice(1, None))
    leans = [float((each[inner] - 0.5).abs().max()) for each in (alone, all_four)]
    assert leans[0] > 0.4
    assert leans[1] < leans[0] / 2
    expected, _ = expected_affinities(
        Leaning(), {**batch(), "clean": clean, "displacement": torch.zeros(2, 2, 6, 9, 9)}, OFFSETS,
        PLAIN.model_copy(update={"teacher_orientations": 4}),
    )  # fmt: skip
    assert torch.equal(expected, all_four), "the settings reach the teacher"


def test_teacher_orientations_require_square_crops_and_are_not_published(configuration: Path) -> None:
    with pytest.raises(ValueError, match="teacher_orientations must be 1"):
        ConsistencySettings(teacher="ema", published=True, teacher_orientations=2)
    content = yaml.safe_load(edited_section(configuration, "views", consistency={"teacher": "ema"}).read_text())
    content["consistency"]["teacher_orientations"] = 4
    content["optimiser"]["patch_voxels"] = [24, 16, 24]
    content["consistency"]["perturbations"] = {"names": ["noise"]}
    with pytest.raises(ValueError, match="requires equal y and x"):
        TrainingSettings.model_validate(content)


def test_unsure_targets_do_not_count() -> None:
    settings = ConsistencySettings(teacher="ema", confidence=0.5)
    found, mask = expected_affinities(Certain(), batch(), OFFSETS, settings)
    assert 0 < mask.mean() < 1
    sure = (2 * found - 1).abs()
    assert sure[mask > 0].min() >= 0.5
    assert sure[mask == 0].max() < 0.5


def test_the_loss_is_the_mean_square_where_it_counts() -> None:
    logits = torch.zeros(1, 5, 1, 1, 2)
    expected = torch.tensor([1.0, 0.5]).expand(1, 3, 1, 1, 2)
    mask = torch.ones_like(expected)
    assert consistency_loss(logits, expected, mask, (1, 1, 2)).item() == pytest.approx(0.125)
    assert consistency_loss(logits, expected, mask * 0, (1, 1, 2)).item() == 0.0
    edge = torch.full((1, 5, 1, 1, 1), 9.0)
    wide = torch.cat([edge, logits, edge], dim=-1)
    around = torch.cat([edge[:, :3] * 0, expected, edge[:, :3] * 0], dim=-1)
    assert consistency_loss(wide, around, torch.ones_like(around), (1, 1, 2)).item() == pytest.approx(0.125)


def test_the_weight_is_constant_or_ramped() -> None:
    assert consistency_weight(0, PLAIN) == 1.0
    ramped = ConsistencySettings(teacher="ema", weight=0.1, ramp_steps=100)
    assert consistency_weight(0, ramped) == pytest.approx(0.1 * np.exp(-5))
    assert consistency_weight(50, ramped) == pytest.approx(0.1 * np.exp(-1.25))
    assert consistency_weight(100, ramped) == 0.1
    late = ConsistencySettings(teacher="ema", weight=0.1, ramp_steps=100, begin_step=30)
    assert consistency_weight(29, late) == 0.0
    assert consistency_weight(80, late) == consistency_weight(50, ramped)


def test_published_training_uses_the_teacher_from_the_first_step() -> None:
    with pytest.raises(ValueError, match="begin_step must be 0"):
        ConsistencySettings(teacher="ema", published=True, begin_step=5)


@pytest.mark.parametrize("published", [False, True])
def test_unlabelled_crops_are_turned_unless_published(published: bool, configuration: Path, tmp_path: Path) -> None:
    path = edited_section(
        configuration, f"turned-{published}",
        consistency={"teacher": "ema", "published": published, "perturbations": {"strength": 0.0}},
    )  # fmt: skip
    opened = open_training(path)
    pairs = samples_of(opened, 0, 1)[1]
    raw = zarr.open_array(str(configuration.parent / "raw.zarr"), mode="r")[:].astype(np.float32) / np.float32(255)
    places = [np.argwhere(np.isclose(raw, pairs[index]["clean"][0, 0, 0, 0])) for index in range(6)]

    def as_it_lies(index: int) -> bool:
        clean = pairs[index]["clean"][0]
        cuts = [raw[tuple(slice(b, b + w) for b, w in zip(place, clean.shape, strict=True))] for place in places[index]]
        return any(cut.shape == clean.shape and np.array_equal(cut, clean) for cut in cuts)

    assert all(as_it_lies(index) for index in range(6)) == published


def test_only_labels_are_used_before_consistency_begins(configuration: Path, tmp_path: Path) -> None:
    content = {"teacher": "ema", "begin_step": 12}
    path = edited_section(configuration, "late", consistency=content)
    train(path, tmp_path / "late", device="cpu", progress=False)
    plain = yaml.safe_load(configuration.read_text())
    assert plain["optimiser"]["steps"] == 24
    train(configuration, tmp_path / "plain", device="cpu", progress=False)
    late, alone = (
        [line for line in (tmp_path / name / "log.csv").read_text().splitlines() if "validation/voi_sum" in line]
        for name in ("late", "plain")
    )
    assert late[0] == alone[0], "the first twelve steps are those of the supervised training"
    assert "loss/consistency" in (tmp_path / "late" / "log.csv").read_text()


def test_the_teachers_pass_keeps_the_running_statistics() -> None:
    network = build_network("light", {"widths": [4, 8]}).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with frozen_statistics(network), torch.no_grad():
        network(torch.rand(2, 1, 8, 8, 8))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    with torch.no_grad():
        network(torch.rand(2, 1, 8, 8, 8))
    assert not torch.equal(network.state_dict()["encoder.0.first_norm.running_mean"],
                           before["encoder.0.first_norm.running_mean"])  # fmt: skip


def test_crops_come_from_their_region_and_are_seeded(raw_volume: str) -> None:
    regions = open_unlabelled([UnlabelledSettings(raw=raw_volume, region="8:24,4:36,0:30")], ["."], (12, 16, 16))
    crops = Crops(regions, (12, 16, 16), "in_plane")
    first, again = (perturbed_pair(crops, PerturbationSettings(), np.random.default_rng(5)) for _ in range(2))
    for name, array in first.items():
        assert np.array_equal(array, again[name]), name
    assert first["clean"].shape == first["perturbed"].shape == (1, 12, 16, 16)
    assert first["displacement"].shape == (2, 12, 16, 16)
    assert first["clean"].max() <= 1
    with pytest.raises(InputError, match="smaller than a crop"):
        open_unlabelled([UnlabelledSettings(raw=raw_volume, region="0:8,:,:")], ["."], (12, 16, 16))


@pytest.mark.parametrize(
    ("teacher", "published"), [("weight_sharing", False), ("weight_sharing", True), ("ema", False), ("ema", True)]
)
def test_a_resumed_consistency_training_equals_an_uninterrupted_one(
    teacher: str, published: bool, configuration: Path, tmp_path: Path
) -> None:
    content = {"teacher": teacher, "published": published, "perturbations": {"names": list(PUBLISHED)}}
    path = edited_section(configuration, f"{teacher}-{published}", consistency=content)
    train(path, tmp_path / "uncut", device="cpu", progress=False)
    rows = [line.split(",") for line in (tmp_path / "uncut" / "log.csv").read_text().splitlines()]
    assert any(name == "loss/consistency" for _, name, _ in rows)
    pictures = EventAccumulator(str(tmp_path / "uncut" / "tensorboard")).Reload().Tags()["images"]
    assert {f"pictures/{name}" for name in ("raw", "target", "prediction", "unlabelled", "expected")} <= set(pictures)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuroseg.training.learning.loop.Records.write", interrupt_after(12))
        with pytest.raises(KeyboardInterrupt):
            train(path, tmp_path / "cut", device="cpu", progress=False)
    train(path, tmp_path / "cut", device="cpu", progress=False)
    one, other = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("uncut", "cut"))
    for part in ("network", "average"):
        for name, tensor in one[part].items():
            assert torch.equal(tensor, other[part][name]), name


def test_loader_processes_read_the_same_crops(configuration: Path, tmp_path: Path) -> None:
    """zarr and HDF5, opened before the processes are forked, give the weights of a training without them."""
    raw = zarr.open_array(str(configuration.parent / "raw.zarr"), mode="r")[:]
    with h5py.File(configuration.parent / "raw.h5", "w") as file:
        file["raw"] = raw
    trained = []
    for workers in (0, 1):
        path = edited_section(
            configuration, f"loaded-{workers}", consistency={"teacher": "ema"}, loader_workers=workers
        )
        content = yaml.safe_load(path.read_text())
        content["data"]["unlabelled"].append({"raw": "raw.h5:raw"})
        content["optimiser"]["steps"] = content["validation"]["every_steps"] = 8
        path.write_text(yaml.safe_dump(content))
        train(path, tmp_path / str(workers), device="cpu", progress=False)
        trained.append(load_checkpoint(tmp_path / str(workers) / "checkpoint.pt")["network"])
    for name, tensor in trained[0].items():
        assert torch.equal(tensor, trained[1][name]), name


def test_consistency_without_unlabelled_volumes_is_refused(configuration: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(configuration.read_text())
    content["consistency"] = {"teacher": "ema"}
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="require each other"):
        train(path, tmp_path / "run", device="cpu", progress=False)
