"""Recomputed statistics of batch normalisation, checked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from neuroseg.networks.bundle import open_bundle
from neuroseg.training.learning.processes import ProcessGroup
from neuroseg.training.learning.statistics import with_recomputed_statistics
from neuroseg.training.learning.trainer import Trainer
from neuroseg.training.train import open_training, samples_of, train

CPU = torch.device("cpu")
CROPS = [{"raw": np.full((1, 1, 1, 2), low, np.float32) + np.array([0, 2], np.float32)} for low in (0, 10, 1000)]


@pytest.mark.parametrize(("batch", "variance"), [(1, 2.0), (2, (4 * 25 + 4 * 1) / 3)])
def test_means_and_variances_come_from_the_first_crops(batch: int, variance: float) -> None:
    network = nn.BatchNorm3d(1, momentum=0.001)
    own = with_recomputed_statistics(network, CROPS, "raw", count=2, batch=batch, device=CPU)
    assert isinstance(own, nn.BatchNorm3d)
    assert own.running_mean is not None
    assert own.running_var is not None
    assert own.running_mean.item() == pytest.approx((1 + 11) / 2)
    assert own.running_var.item() == pytest.approx(variance), "0, 2 and 10, 12: of each, or of all four around 6"
    assert (own.momentum, own.training) == (0.001, False)
    assert network.running_mean is not None
    assert network.running_mean.item() == 0, "the network that was given stays as it was"


def test_without_crops_or_batch_normalisation_nothing_changes() -> None:
    network = nn.BatchNorm3d(1)
    assert with_recomputed_statistics(network, CROPS, "raw", count=0, batch=1, device=CPU) is network
    grouped = nn.GroupNorm(1, 1)
    nn.init.normal_(grouped.weight)
    own = with_recomputed_statistics(grouped, CROPS, "raw", count=2, batch=1, device=CPU)
    assert torch.equal(own.state_dict()["weight"], grouped.weight)


def test_synchronised_layers_are_replaced() -> None:
    plain = nn.Sequential(nn.Sequential(nn.BatchNorm3d(1, momentum=0.001)))
    nn.init.normal_(plain[0][0].weight)
    shared = nn.SyncBatchNorm.convert_sync_batchnorm(plain)
    own = with_recomputed_statistics(shared, CROPS, "raw", count=2, batch=1, device=CPU)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in own.modules())
    assert own.state_dict()["0.0.running_mean"].item() == pytest.approx(6)
    assert torch.equal(own.state_dict()["0.0.weight"], shared.state_dict()["0.0.weight"])


def test_the_exported_statistics_come_from_the_first_labelled_samples(configuration: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(configuration.read_text())
    content["optimiser"]["steps"] = content["validation"]["every_steps"] = 3
    content["validation"]["statistics_samples"] = 2
    path = configuration.with_name("statistics.yaml")
    path.write_text(yaml.safe_dump(content))
    outcome = train(path, tmp_path / "run", device="cpu", progress=False)
    opened = open_training(path)
    trainer = Trainer(opened.settings, tmp_path / "run", CPU, ProcessGroup())
    trainer.load()
    samples = samples_of(opened, 0, 1)[0]
    expected = with_recomputed_statistics(
        trainer.average.network, samples, "raw", count=2, batch=1, device=CPU
    ).state_dict()
    found = open_bundle(str(outcome.bundle)).network().state_dict()
    names = [name for name in found if name.endswith(("running_mean", "running_var"))]
    assert names
    for name in names:
        assert torch.allclose(found[name], expected[name], atol=1e-6), name
