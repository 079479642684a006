"""One step of consistency learning: losses, running statistics and the validated network."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from neuroseg.training.learning.processes import ProcessGroup
from neuroseg.training.learning.trainer import Trainer
from neuroseg.training.perturbations.draw import UNTURNED
from neuroseg.training.settings import TrainingSettings


@pytest.mark.parametrize("published", [False, True])
def test_perturbed_crops_change_the_statistics_only_if_published(published: bool, tmp_path: Path) -> None:
    content = {
        "name": "t", "data": {"unlabelled": [{"raw": "r"}]}, "network": {"parameters": {"widths": [4, 8]}},
        "consistency": {"teacher": "ema", "published": published}, "optimiser": {"steps": 2, "patch_voxels": [8, 8, 8]},
    }  # fmt: skip
    trainer = Trainer(TrainingSettings.model_validate(content), tmp_path, torch.device("cpu"), ProcessGroup())
    alone = copy.deepcopy(trainer.network).train()
    shape = (2, 1, 8, 8, 8)
    given = {"raw": torch.rand(shape), "clean": torch.rand(shape), "perturbed": torch.rand(shape) * 9,
             "targets": torch.ones(2, 3, 8, 8, 8), "mask": torch.ones(2, 3, 8, 8, 8),
             "displacement": torch.zeros(2, 2, 8, 8, 8), "turn": torch.tensor([UNTURNED] * 2)}  # fmt: skip
    assert "consistency" in trainer.update(given)
    with torch.autocast("cpu", torch.bfloat16):
        alone(given["raw"].contiguous(memory_format=torch.channels_last_3d))
    name = "encoder.0.first_norm.running_var"
    same = torch.allclose(trainer.network.state_dict()[name], alone.state_dict()[name])
    assert same != published


def trainer_of(consistency: object, folder: Path, **optimiser: object) -> Trainer:
    content = {
        "name": "t", "data": {"unlabelled": [{"raw": "r"}]}, "network": {"parameters": {"widths": [4, 8]}},
        "consistency": consistency, "optimiser": {"steps": 2, "patch_voxels": [8, 8, 8], **optimiser},
    }  # fmt: skip
    return Trainer(TrainingSettings.model_validate(content), folder, torch.device("cpu"), ProcessGroup())


def labelled_and_pair() -> dict[str, torch.Tensor]:
    """Two labelled crops, and two clean crops with perturbed copies that did not move."""
    torch.manual_seed(1)
    crops = {name: torch.rand(2, 1, 8, 8, 8) for name in ("raw", "clean", "perturbed")}
    return {
        **crops,
        "targets": (torch.rand(2, 3, 8, 8, 8) < 0.5).float(),
        "mask": torch.ones(2, 3, 8, 8, 8),
        "displacement": torch.zeros(2, 2, 8, 8, 8),
        "turn": torch.tensor([UNTURNED] * 2),
    }


def test_consistency_counts_by_its_weight(tmp_path: Path) -> None:
    learnt = []
    for weight in (0.0, 2.0):
        trainer = trainer_of({"teacher": "ema", "weight": weight}, tmp_path)
        losses = trainer.update(labelled_and_pair())
        assert losses["total"] == pytest.approx(losses["affinities"] + weight * losses.get("consistency", 0.0))
        learnt.append(trainer.network.state_dict()["stem.weight"])
    assert not torch.equal(*learnt), "the weights follow it, too"


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize(("teacher", "who"), [("ema", "average"), ("weight_sharing", "student")])
def test_the_teacher_gets_clean_crops_and_the_student_perturbed_ones(
    teacher: str, who: str, published: bool, labelled: bool, tmp_path: Path
) -> None:
    trainer = trainer_of({"teacher": teacher, "published": published}, tmp_path)
    given = labelled_and_pair()
    if not labelled:
        given = {name: tensor for name, tensor in given.items() if name not in ("raw", "targets", "mask")}
    seen = []

    def watch(name: str, network: nn.Module) -> None:
        def look(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            for crops in inputs[0].split(2):
                seen.extend((name, what) for what, tensor in given.items() if torch.equal(tensor, crops))

        network.register_forward_pre_hook(look)

    watch("student", trainer.network)
    watch("average", trainer.average.network)
    trainer.update(given)
    labels = [("student", "raw")] if labelled else []
    assert seen == [(who, "clean"), *labels, ("student", "perturbed")]


@pytest.mark.parametrize("teacher", ["ema", "weight_sharing"])
def test_a_student_approaches_its_teacher_without_labels(teacher: str, tmp_path: Path) -> None:
    trainer = trainer_of(teacher, tmp_path, steps=30, learning_rate=0.01, warm_up_steps=0)
    given = {name: labelled_and_pair()[name] for name in ("clean", "perturbed", "displacement", "turn")}
    losses = [trainer.update(given)["consistency"] for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("consistency", "is_average"),
    [("ema", True), ("weight_sharing", True), ({"teacher": "ema", "published": True}, True),
     ({"teacher": "weight_sharing", "published": True}, False)],
)  # fmt: skip
def test_the_average_is_validated_unless_published_weight_sharing(
    consistency: object, is_average: bool, tmp_path: Path
) -> None:
    trainer = trainer_of(consistency, tmp_path)
    with torch.no_grad():
        for parameter in trainer.average.network.parameters():
            parameter.fill_(7.0)
    judged = trainer.network_to_validate()
    assert not judged.training
    assert all(bool((parameter == 7.0).all()) for parameter in judged.parameters()) == is_average
    assert trainer.network.training, "what is judged is no longer learnt with"


def test_the_published_teacher_uses_statistics_of_its_own_passes(tmp_path: Path) -> None:
    trainer = trainer_of({"teacher": "ema", "published": True}, tmp_path)
    shape = (2, 1, 8, 8, 8)
    clean = torch.rand(shape)
    alone = copy.deepcopy(trainer.average.network).train()
    trainer.update({
        "raw": torch.rand(shape) * 5, "clean": clean, "perturbed": torch.rand(shape) * 9,
        "targets": torch.ones(2, 3, 8, 8, 8), "mask": torch.ones(2, 3, 8, 8, 8),
    })  # fmt: skip
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        alone(clean.contiguous(memory_format=torch.channels_last_3d))
    name = "encoder.0.first_norm.running_mean"
    assert torch.equal(trainer.average.network.state_dict()[name], alone.state_dict()[name])
    assert not torch.equal(trainer.average.network.state_dict()[name], trainer.network.state_dict()[name])
