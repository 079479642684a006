"""Training learns, resumes exactly, and exports a bundle for prediction."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
import zarr
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from neuroseg.errors import InputError, RunRefusedError
from neuroseg.networks.bundle import open_bundle
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.training.data.affinity_targets import UNLABELLED, affinity_targets
from neuroseg.training.data.samples import LabelledVolume, Samples, sampling_shares
from neuroseg.training.learning.optimiser import learning_rate
from neuroseg.training.learning.records import load_checkpoint, save_checkpoint
from neuroseg.training.settings import (
    AugmentationSettings,
    DataSettings,
    OptimiserSettings,
    PerturbationSettings,
    TargetSettings,
)
from neuroseg.training.train import train
from neuroseg.views.synthetic import synthetic_volume


def edited(configuration: Path, **optimiser: object) -> Path:
    content = yaml.safe_load(configuration.read_text())
    content["optimiser"] |= optimiser
    path = configuration.with_name(f"edited-{'-'.join(map(str, optimiser.values()))}.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def edited_section(configuration: Path, name: str, **sections: object) -> Path:
    """A copy of the configuration with whole sections replaced, and a volume without labels."""
    content = yaml.safe_load(configuration.read_text())
    content |= sections
    content["data"]["unlabelled"] = [{"raw": "raw.zarr"}]
    path = configuration.with_name(f"{name}.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def test_training_learns_and_its_bundle_predicts(configuration: Path, tmp_path: Path, raw_volume: str) -> None:
    outcome = train(configuration, tmp_path / "run", device="cpu", progress=False)
    rows = [line.split(",") for line in (tmp_path / "run" / "log.csv").read_text().splitlines()]
    scores = [float(value) for _, name, value in rows if name == "validation/voi_sum"]
    assert len(scores) == 2
    waiting = [float(value) for _, name, value in rows if name == "waiting"]
    assert waiting
    assert all(0 <= share <= 1 for share in waiting)
    assert outcome.best.scores.voi_sum == pytest.approx(min(scores), rel=1e-4)
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert {"pictures/raw", "pictures/target", "pictures/prediction"} <= set(board.Tags()["images"])
    assert "validation/voi_sum" in board.Tags()["scalars"]
    card = open_bundle(str(outcome.bundle)).card
    assert card.gpu_tile is not None
    assert card.gpu_tile.computed_per_kept <= 2 < card.tile.computed_per_kept
    assert (card.training.steps, card.segmentation.threshold) == (outcome.step, outcome.best.threshold)
    given = {"volume": raw_volume, "model": str(outcome.bundle), "output": str(tmp_path / "w"), "executor": "serial"}
    workspace, _ = pipeline.predict(Options.model_validate(given))
    assert zarr.open_array(str(workspace.affinities), mode="r").shape[0] == 3


def test_the_loss_falls(configuration: Path, tmp_path: Path) -> None:
    longer = edited(configuration, steps=80)
    train(longer, tmp_path / "run", device="cpu", progress=False)
    rows = [line.split(",") for line in (tmp_path / "run" / "log.csv").read_text().splitlines()]
    losses = [float(value) for _, name, value in rows if name == "loss/affinities"]
    assert losses[-1] < 0.92 * losses[0]


def test_a_training_is_reproducible(configuration: Path, tmp_path: Path) -> None:
    trained = []
    path = edited_section(configuration, "repeated", consistency="ema")
    content = yaml.safe_load(path.read_text())
    content["optimiser"]["steps"] = 3
    path.write_text(yaml.safe_dump(content))
    for name in ("first", "again"):
        train(path, tmp_path / name, device="cpu", progress=False)
        trained.append(load_checkpoint(tmp_path / name / "checkpoint.pt"))
    first, again = trained
    for part in ("network", "average"):
        for name, tensor in first[part].items():
            assert torch.equal(tensor, again[part][name]), name


def test_a_resumed_training_equals_an_uninterrupted_one(
    configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(configuration, tmp_path / "uncut", device="cpu", progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuroseg.training.learning.loop.Records.write", interrupt_after(12))
        with pytest.raises(KeyboardInterrupt):
            train(configuration, tmp_path / "cut", device="cpu", progress=False)
    stored = load_checkpoint(tmp_path / "cut" / "checkpoint.pt")
    assert stored["step"] == 12
    save_checkpoint(tmp_path / "cut" / "checkpoint.pt", {**stored, "settings": {"of": "an older release"}})
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)  # another order of sums would change the weights
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        train(configuration, tmp_path / "cut", device="cpu", progress=False)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(threads)
    one, other = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("uncut", "cut"))
    assert one["step"] == other["step"] == 24
    assert "settings" not in one, "configuration.yaml has them"
    for part in ("network", "average"):
        for name, tensor in one[part].items():
            assert torch.equal(tensor, other[part][name]), name


def test_a_deleted_bundle_is_an_error(configuration: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuroseg.training.learning.loop.Records.write", interrupt_after(12))
        with pytest.raises(KeyboardInterrupt):
            train(configuration, run, device="cpu", progress=False)
    best = yaml.safe_load((run / "best.yaml").read_text())
    (run / "best.yaml").write_text(yaml.safe_dump({**best, "voi_sum": -1.0}))
    shutil.rmtree(run / "bundle")
    assert open_bundle(str(train(configuration, run, device="cpu", progress=False).bundle)), "another is kept instead"
    shutil.rmtree(run / "bundle")
    with pytest.raises(InputError, match=r"run is finished, but its best bundle .* is missing.*\nhint: .*--restart"):
        train(configuration, run, device="cpu", progress=False)


def test_an_empty_record_of_the_best_is_rewritten(configuration: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuroseg.training.learning.loop.Records.write", interrupt_after(12))
        with pytest.raises(KeyboardInterrupt):
            train(configuration, run, device="cpu", progress=False)
    for content in ("", "{", "step: 3"):
        (run / "best.yaml").write_text(content)
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        shutil.copytree(run, tmp_path / "again")
        outcome = train(configuration, tmp_path / "again", device="cpu", progress=False)
        assert outcome.best.scores.voi_sum == yaml.safe_load((tmp_path / "again" / "best.yaml").read_text())["voi_sum"]


def interrupt_after(step: int) -> object:
    def write(records: object, at: int, values: object) -> None:
        if at >= step:
            raise KeyboardInterrupt

    return write


def test_a_folder_of_another_training_is_refused(configuration: Path, tmp_path: Path) -> None:
    short = edited(configuration, steps=1)
    train(short, tmp_path / "run", device="cpu", progress=False)
    with pytest.raises(RunRefusedError, match="another configuration"):
        train(configuration, tmp_path / "run", device="cpu", progress=False)
    train(edited(configuration, steps=2), tmp_path / "run", device="cpu", restart=True, progress=False)
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"] == 2


def test_missing_data_names_the_searched_folders(configuration: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(configuration.read_text())
    content["data"]["training"][0]["raw"] = "absent.zarr"
    path = tmp_path / "absent.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"absent\.zarr is in none of the folders .*/nowhere"):
        train(path, tmp_path / "run", device="cpu")


def test_sample_i_depends_only_on_the_seed() -> None:
    made = synthetic_volume((32, 40, 40), 2)
    volume = LabelledVolume(made.raw, made.labels, (10, 10, 10))

    def samples(start: int) -> Samples:
        return Samples(
            [volume], shape=(16, 20, 24), count=6, seed=9, targets=TargetSettings(),
            augmentation=AugmentationSettings(), start=start,
        )  # fmt: skip

    late = samples(4)
    assert len(late) == 2
    for name, array in samples(0)[5].items():
        assert np.array_equal(array, late[1][name])
    assert not np.array_equal(samples(0)[0]["raw"], samples(0)[1]["raw"])


def test_volumes_of_different_sizes_are_sampled_completely() -> None:
    """Places depend on the size of each volume: the last section of the deeper one is drawn."""
    volumes = []
    for grey, shape in ((50, (9, 30, 12)), (200, (40, 12, 12))):
        depth = np.arange(shape[0], dtype=np.uint8)[:, None, None]
        raw = np.broadcast_to(grey + depth, shape).copy()
        volumes.append(LabelledVolume(raw, np.ones(shape, np.uint32), (10, 10, 10)))
    still = AugmentationSettings(deform=0, intensity=0, sections=0, noise=0, blur=0, missing=0, orientations="in_plane")
    samples = Samples(volumes, shape=(8, 12, 12), count=200, seed=1, targets=TargetSettings(), augmentation=still)
    seen = {round(float(value) * 255) for sample in (samples[n] for n in range(200)) for value in sample["raw"].ravel()}
    assert seen == {*range(50, 59), *range(200, 240)}


def test_a_volume_gives_its_share_of_the_samples() -> None:
    def volume(labelled: int, share: float | None = None) -> LabelledVolume:
        labels = np.full((1, 1, 8), UNLABELLED)
        labels[..., :labelled] = 1
        return LabelledVolume(np.zeros(labels.shape, np.uint8), labels, (10, 10, 10), share=share)

    assert sampling_shares([volume(2), volume(6)]).tolist() == [0.25, 0.75]
    assert sampling_shares([volume(2), volume(8, 0.5), volume(6)]).tolist() == [0.125, 0.5, 0.375]
    assert sampling_shares([volume(8, 0.25), volume(1, 0.75)]).tolist() == [0.25, 0.75]
    assert sampling_shares([volume(3)]).tolist() == [1.0]


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([0.5, None, 0.5], "add up to 1; less than 1 is expected, because 1 have no share"),
        ([0.5, 0.25], r"add up to 0\.75, not to 1"),
        ([1.5], "less than or equal to 1"),
        ([0.0], "greater than 0"),
    ],
)
def test_shares_that_do_not_add_up_are_refused(shares: list[float | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataSettings.model_validate({"training": [{"raw": "r", "labels": "l", "share": share} for share in shares]})


def test_a_share_of_a_validation_volume_is_refused() -> None:
    volume = {"raw": "r", "labels": "l", "share": 0.5}
    for content in ({"validation": volume}, {"test": [volume]}):
        with pytest.raises(ValueError, match="remove it from validation and test"):
            DataSettings.model_validate(content)


def test_without_augmentation_a_sample_is_a_part_of_the_volume() -> None:
    made = synthetic_volume((24, 24, 24), 2)
    volume = LabelledVolume(made.raw, made.labels, (10, 10, 10))
    still = AugmentationSettings(deform=0, intensity=0, sections=0, noise=0, blur=0, missing=0)
    samples = Samples([volume], shape=(24, 24, 24), count=1, seed=0, targets=TargetSettings(), augmentation=still)
    raw = samples[0]["raw"][0]
    assert np.array_equal(np.sort(raw.ravel()), np.sort((made.raw / np.float32(255)).ravel().astype(np.float32)))


@pytest.mark.parametrize("name", ["misalign", "flip"])
def test_targets_of_a_sample_move_with_its_perturbation(name: str) -> None:
    """Raw has one grey value per label without interpolation, so it shows where each label moved."""
    labels = np.random.default_rng(2).integers(0, 9, (4, 8, 8), np.uint32).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    volume = LabelledVolume(labels.astype(np.uint8), labels, (10, 10, 10))
    targets = TargetSettings(border_axes=())

    def samples(*names: str) -> Samples:
        moved = AugmentationSettings(
            deform=0, intensity=0, sections=0, noise=0, blur=0, missing=0, orientations="in_plane",
            perturbations=PerturbationSettings(names=names),
        )  # fmt: skip
        return Samples([volume], shape=(8, 24, 24), count=8, seed=3, targets=targets, augmentation=moved)

    for sample in samples(name):
        painted = np.round(sample["raw"][0] * 255).astype(np.uint32)
        assert np.array_equal(sample["targets"], affinity_targets(painted, targets.offsets)[0])
    moved = [not np.array_equal(m["raw"], s["raw"]) for m, s in zip(samples(name), samples(), strict=True)]
    assert sum(moved) >= 4, "most of them"


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    settings = OptimiserSettings(steps=100, patch_voxels=(8, 8, 8), learning_rate=1.0, warm_up_steps=10)
    rates = [learning_rate(step, settings) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[100] == pytest.approx(0)
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
