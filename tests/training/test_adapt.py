"""`neuroseg adapt` keeps only better models, with their scores."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
import zarr
from torch import nn

from neuroseg.cli.main import exit_code
from neuroseg.errors import InputError, RunRefusedError
from neuroseg.networks.bundle import open_bundle
from neuroseg.training import adapt as room
from neuroseg.training.adapt import Request, adapt, held_out_crops
from neuroseg.training.judging.agreement import Agreement, agreement, agrees_better
from neuroseg.volumes.volume import open_volume


@pytest.fixture
def volume(configuration: Path) -> str:
    return str(configuration.parent / "raw.zarr")


@pytest.fixture
def labels(configuration: Path) -> str:
    return str(configuration.parent / "labels.zarr")


def judged_as(monkeypatch: pytest.MonkeyPatch, name: str, *answers: dict[str, Any]) -> None:
    given = iter(answers)
    monkeypatch.setattr(room, name, lambda *anything: next(given))


def judged(entropy: float, *apart: float) -> dict[str, Any]:
    return asdict(Agreement(float(np.mean(apart)), entropy, apart, (2.0 * entropy,) * len(apart)))


def test_a_better_model_is_kept_with_its_scores(
    volume: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judged_as(monkeypatch, "_score_by_agreement", judged(3.0, 0.6, 0.5, 0.4), judged(2.9, 0.51, 0.39, 0.3))
    command = ["adapt", volume, "--model", tiny_model, "--steps", "3", "-o", str(tmp_path / "a"), "--device", "cpu"]
    assert exit_code([*command, "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert json.loads((tmp_path / "a" / "results.json").read_text()) == found
    assert (found["before"]["disagreement"], found["after"]["disagreement"]) == pytest.approx((0.5 / 6, 0.4 / 5.8))
    assert (found["before"]["voi"], found["after"]["voi"]) == pytest.approx((0.5, 0.4))
    assert "differ by 8.3% before, 6.9% after (0.500 bits before, 0.400 after; 3 of 3 crops" in told.err
    bundle = open_bundle(found["bundle"])
    bundle.check()
    old, new = open_bundle(tiny_model).network().state_dict(), bundle.network().state_dict()
    assert any(not torch.equal(old[name], new[name]) for name in old)
    assert bundle.card.scores["after"]["voi"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    "after", [judged(3.0, 0.7, 0.6, 0.5), judged(1.0, 0.1, 0.1, 0.1), judged(3.0, 0.1, 0.6, 0.5)],
    ids=["worse", "one object", "one crop alone"],
)  # fmt: skip
def test_a_model_that_is_not_better_is_not_kept(
    after: dict[str, Any], volume: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    judged_as(monkeypatch, "_score_by_agreement", judged(3.0, 0.6, 0.5, 0.4), after)
    command = ["adapt", volume, "--model", tiny_model, "--steps", "2", "-o", str(tmp_path / "a"), "--device", "cpu"]
    assert exit_code(command) == 1
    assert "no bundle was written" in capsys.readouterr().err
    assert not (tmp_path / "a" / "bundle").exists()
    assert json.loads((tmp_path / "a" / "results.json").read_text())["bundle"] is None


def test_labels_are_scored_on_held_out_sections(
    volume: str, labels: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions = []
    validate = room.validate

    def watched(network: nn.Module, opened: room.OpenedVolume, *more: object) -> object:
        regions.append((opened.region.begin[0], opened.region.end[0]))
        return validate(network, opened, *more)  # type: ignore[arg-type]

    learnt, around = [], []
    samples = room.labelled_samples

    def seen(opened: list[room.OpenedVolume], *more: object) -> object:
        learnt.append((opened[0].region.begin[0], opened[0].region.end[0]))
        around.append(opened[0].surround)
        return samples(opened, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(room, "validate", watched)
    monkeypatch.setattr(room, "labelled_samples", seen)
    request = Request(volume, tiny_model, labels=labels, region="8:24,:,:", steps=2)
    made = adapt(request, tmp_path / "a", device="cpu", progress=False)
    assert made.measure == "labels"
    assert set(learnt) == {(8, 20)}, "neither steps nor statistics see what judges"
    patch = open_bundle(tiny_model).card.tile.output_voxels
    assert {each[0] for each in around} == {max(0, patch[0] - 12)}, "as much raw as a patch needs beyond the sections"
    assert regions == [(20, 24)] * 2
    assert made.before["voi"] > 0
    with pytest.raises(RunRefusedError):
        adapt(replace(request, labels=None, region=None), tmp_path / "a", device="cpu", progress=False)


@pytest.mark.parametrize(("after", "kept"), [(0.9, True), (1.0, False), (1.1, False)])
def test_a_better_model_by_labels_is_kept_with_its_threshold(
    after: float, kept: bool, volume: str, labels: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_as(monkeypatch, "_score_by_labels", {"voi": 1.0, "threshold": 0.4}, {"voi": after, "threshold": 0.7})
    command = ["adapt", volume, "--model", tiny_model, "--labels", labels, "--region", "8:24,:,:", "--steps", "1"]
    command += ["-o", str(tmp_path / "a"), "--device", "cpu"]
    assert exit_code(command) == (0 if kept else 1)
    assert (tmp_path / "a" / "bundle").exists() is kept
    if kept:
        card = open_bundle(str(tmp_path / "a" / "bundle")).card
        assert card.segmentation.threshold == 0.7
        assert shlex.split(card.training.command) == ["neuroseg", *command], "as it was typed"
        assert card.training.data.endswith(f"; {volume}, labels {labels} [8:24,:,:]")


class Threshold(nn.Module):
    """A network that links voxels brighter than 0.5."""

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        return ((raw - 0.5) * 40.0).repeat(1, 3, 1, 1, 1)


def test_a_constant_network_agrees_perfectly_and_has_no_entropy(volume: str, tiny_model: str) -> None:
    bundle = open_bundle(tiny_model)
    crops = held_out_crops(open_volume(volume), (16, 24, 24), seed=0)
    assert [crop.shape for crop in crops] == [(16, 10, 20)] * 4, "a quarter, 32 x 10 x 40, gives three at least"

    class One(Threshold):
        windows = bundle.network().windows

        def forward(self, raw: torch.Tensor) -> torch.Tensor:
            return torch.full_like(raw, 9.0).repeat(1, 3, 1, 1, 1)

    device = torch.device("cpu")
    collapsed = agreement(One(), bundle.card, crops, device, 0)
    assert (collapsed.voi, collapsed.entropy) == (0.0, 0.0)
    assert not agrees_better(collapsed, collapsed)
    with pytest.raises(ValueError, match="at least two crops"):
        agrees_better(Agreement(0.5, 3.0, (0.5,), (6.0,)), Agreement(0.4, 3.0, (0.4,), (6.0,)))
    first, again = (agreement(bundle.network(), bundle.card, crops, device, 0) for _ in range(2))
    assert first == again
    assert first.entropy > 0


def test_more_separated_objects_may_differ_by_more_bits() -> None:
    before = Agreement(0.5, 1.0, (0.5, 0.4, 0.6), (1.0, 1.0, 1.0))
    finer = Agreement(0.6, 2.0, (0.6, 0.5, 0.7), (2.0, 2.0, 2.0))
    assert (before.disagreement, finer.disagreement) == pytest.approx((0.5, 0.3))
    assert agrees_better(before, finer)
    assert (finer.better_crops(before), before.better_crops(finer)) == (3, 0)
    assert not agrees_better(finer, before)
    # Better in one crop of three: the gain, 0.5 - 0.4, can be chance. Without each crop it is 0, 0.15, 0.15, with a
    # jackknife error of sqrt(2/3 (0.1^2 + 0.05^2 + 0.05^2)) = 0.1.
    one = Agreement(0.4, 1.0, (0.2, 0.4, 0.6), (1.0, 1.0, 1.0))
    assert not agrees_better(before, one)


def test_crops_are_held_out_at_the_end_of_the_longest_axis(tmp_path: Path) -> None:
    raw = np.zeros((8, 12, 40), np.uint8)
    raw[:, :, 30:] = 255
    array = zarr.create_array(str(tmp_path / "v"), shape=raw.shape, dtype="u1", attributes={"voxel_size": [10, 10, 10]})
    array[:] = raw
    assert all(crop.min() == 1.0 for crop in held_out_crops(open_volume(str(tmp_path / "v")), (8, 8, 8), seed=0))


def test_held_out_crops_never_overlap(tmp_path: Path) -> None:
    raw = np.arange(6 * 20 * 60).reshape(6, 20, 60)
    for byte in range(2):  # two bytes encode the place of a voxel
        array = zarr.create_array(
            str(tmp_path / f"v{byte}"), shape=raw.shape, dtype="u1", attributes={"voxel_size": [10, 10, 10]}
        )
        array[:] = (raw >> 8 * byte).astype(np.uint8)
    for shape, count in (((6, 8, 5), 6), ((2, 4, 3), 8), ((64, 64, 64), 4)):
        low, high = (held_out_crops(open_volume(str(tmp_path / f"v{byte}")), shape, seed=1) for byte in range(2))
        places = np.concatenate([np.rint(a * 255 + 256 * b * 255).ravel() for a, b in zip(low, high, strict=True)])
        assert len(low) == count
        assert len(np.unique(places)) == len(places)
        assert (places % 60 >= 45).all()


def test_a_volume_without_room_for_a_patch_is_refused(volume: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few for the model's patches"):
        adapt(Request(volume, "fib25_light"), tmp_path / "a", device="cpu", progress=False)
    assert not (tmp_path / "a").exists()


def test_a_volume_of_other_voxels_is_refused(tiny_model: str, tmp_path: Path) -> None:
    array = zarr.create_array(str(tmp_path / "v"), shape=(8, 8, 8), dtype="u1", attributes={"voxel_size": [40, 40, 40]})
    array[:] = 0
    with pytest.raises(InputError, match="was trained with voxels of"):
        adapt(Request(str(tmp_path / "v"), tiny_model), tmp_path / "a", device="cpu", progress=False)


def test_adapt_uses_the_requested_precision(
    volume: str, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["adapt", volume, "--model", tiny_model, "--steps", "2", "-o", str(tmp_path / "a"), "--device", "cpu"]
    assert exit_code([*command, "--precision", "flaot32"]) == 2
    assert "did you mean float32" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
    judged_as(monkeypatch, "_score_by_agreement", judged(3.0, 0.6, 0.5, 0.4), judged(2.9, 0.51, 0.39, 0.3))
    assert exit_code([*command, "--precision", "float32"]) == 0
    content = yaml.safe_load((tmp_path / "a" / "configuration.yaml").read_text())
    assert content["optimiser"]["precision"] == "float32"
