"""Each packaged configuration is valid. Errors name the source of missing data."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
import zarr

from neuroseg.cli.main import exit_code
from neuroseg.cli.train import _packaged, configuration_path
from neuroseg.configuration import load_configuration
from neuroseg.errors import InputError
from neuroseg.networks.architectures import build_network
from neuroseg.networks.encoder import load_encoder
from neuroseg.networks.orientations import orientations
from neuroseg.training.data.catalogue import catalogue, found
from neuroseg.training.data.labelled import open_labelled, read_labelled
from neuroseg.training.data_settings import VolumeSettings
from neuroseg.training.perturbations.draw import PUBLISHED
from neuroseg.training.pretraining_settings import PretrainingSettings
from neuroseg.training.reading import read_settings
from neuroseg.training.settings import TrainingSettings
from neuroseg.training.train import open_training

NAMED = (
    "pretraining_snemi3d", "seg_snemi3d_d5_u200", "seg_snemi3d_d10_u200", "seg_snemi3d_d100_u200",
    "seg_snemi3d_d100_u1000", "seg_snemi3d_d5_u200_ema", "pretraining_cremi", "seg_cremi_d10_u200",
    "seg_kasthuri15_d100_u1000", "fib25_light", "fib25_d5_u", "fib25_d5_u_pretrained", "pretraining_fib25",
)  # fmt: skip


def test_the_configurations_of_the_paper_exist() -> None:
    assert set(NAMED) <= set(_packaged())


@pytest.mark.parametrize("name", _packaged())
def test_every_configuration_is_valid_and_has_its_file_name(name: str) -> None:
    model = PretrainingSettings if name.startswith("pretraining") else TrainingSettings
    settings = load_configuration(configuration_path(name), model)
    assert settings.name == name  # type: ignore[attr-defined]
    network = build_network(settings.network.architecture, settings.network.parameters)  # type: ignore[attr-defined]
    if isinstance(settings, TrainingSettings):
        tile, context = settings.validation.tile_voxels, settings.validation.context_voxels
        assert network.windows.allows([t + 2 * c for t, c in zip(tile, context, strict=True)])
    assert network.windows.allows(settings.optimiser.patch_voxels)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["pretrain", "train", "validate"])
def test_the_option_style_of_the_research_code_is_accepted(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`-c=NAME` finds the configuration; then the data or the model are missing."""
    monkeypatch.chdir(tmp_path)
    name = "pretraining_snemi3d" if command == "pretrain" else "seg_snemi3d_d5_1024_u200"
    assert exit_code([command, f"-c={name}"]) == 2
    missing = f"no model bundle at runs/{name}/bundle" if command == "validate" else "AC3_inputs.h5 is in none of"
    assert missing in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["", "_ema"])
def test_names_of_the_research_code_give_the_same_training(suffix: str) -> None:
    one, other = (
        load_configuration(configuration_path(f"seg_snemi3d_{name}{suffix}"), TrainingSettings)
        for name in ("d5_1024_u200", "d5_u200")
    )
    assert one.model_copy(update={"name": other.name}) == other


@pytest.mark.parametrize("teacher", ["weight_sharing", "ema"])
def test_the_reference_presets_train_as_published(teacher: str) -> None:
    name = "seg_snemi3d_d5_u200" + ("_ema" if teacher == "ema" else "") + "_reference"
    settings = load_configuration(configuration_path(name), TrainingSettings)
    assert settings.consistency is not None
    assert (settings.consistency.teacher, settings.consistency.published) == (teacher, True)
    assert (settings.consistency.weight, settings.consistency.ramp_steps, settings.consistency.confidence) == (1, 0, 0)
    assert settings.validation.statistics_samples == 0
    assert (settings.optimiser.batch, settings.optimiser.average_decay) == (2, 0.999)
    assert (settings.targets.border_axes, settings.targets.border_dilations) == ((1, 2), 1)
    assert settings.targets.border_sides == "upper"
    assert [volume.surround_voxels for volume in settings.data.training] == [(0, 0, 0)], "mirrored"
    assert not settings.targets.balanced
    assert settings.augmentation.orientations == "in_plane"
    assert settings.augmentation.perturbations.names == settings.consistency.perturbations.names == PUBLISHED
    augmentation = settings.augmentation.model_dump()
    assert not any(augmentation[name] for name in ("deform", "intensity", "sections", "noise", "blur", "missing"))
    pretraining = load_configuration(configuration_path("pretraining_snemi3d_reference"), PretrainingSettings)
    assert settings.network.encoder == f"runs/{pretraining.name}"
    assert (pretraining.optimiser.batch, pretraining.perturbations.names) == (4, PUBLISHED)
    for optimiser in (settings.optimiser, pretraining.optimiser):
        assert (optimiser.gradient_norm, optimiser.precision) == (None, "float32")
        assert (optimiser.algorithm, optimiser.schedule, optimiser.amsgrad) == ("adam", "constant", True)
        assert (optimiser.learning_rate, optimiser.epsilon, optimiser.weight_decay) == (1e-4, 0.01, 1e-6)
        assert (optimiser.steps, optimiser.warm_up_steps) == (300_000, 0)
        assert optimiser.patch_voxels == (18, 160, 160)


def test_validation_and_test_do_not_overlap_with_training() -> None:
    """AC3: the labels of 0-99 at most, validation 106-155, test 206-255."""
    for name in (name for name in _packaged() if name.startswith("seg_snemi3d")):
        settings = load_configuration(configuration_path(name), TrainingSettings)
        assert settings.data.validation.region == "106:156,:,:"
        for volume in settings.data.training:
            assert volume.region is not None
            assert int(re.findall(r"\d+", volume.region)[1]) <= 100
        assert [volume.region for volume in settings.data.test] == ["206:256,:,:"]


@pytest.mark.parametrize("name", _packaged())
def test_no_validation_volume_is_trained_on(name: str) -> None:
    model = PretrainingSettings if name.startswith("pretraining") else TrainingSettings
    data = load_configuration(configuration_path(name), model).data  # type: ignore[attr-defined]

    def ranges(region: str | None) -> list[range]:
        ends = [part.split(":") for part in (region or ":,:,:").split(",")]
        return [range(int(first or 0), int(last or 9999)) for first, last in ends]

    def are_apart(one: Any, other: Any) -> bool:
        pairs = zip(ranges(one.region), ranges(other.region), strict=True)
        return one.raw != other.raw or not all(set(a) & set(b) for a, b in pairs)

    tests = getattr(data, "test", ())
    assert all(are_apart(volume, data.validation) for volume in (*data.training, *tests)), name
    assert all(are_apart(volume, test) for volume in data.training for test in tests), name


def test_a_missing_file_is_named_with_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"AC3_inputs\.h5 is in none of the folders") as failed:
        open_training(configuration_path("seg_snemi3d_d5_u200"))
    assert "AC3AC4Package.zip" in str(failed.value)


def test_every_public_volume_is_documented() -> None:
    page = Path("docs/reference/datasets.md").read_text()
    for name, volume in catalogue().items():
        assert name in page
        assert volume.raw.split(":")[0].split("/")[0] in page


@pytest.mark.parametrize("name", catalogue())
def test_volumes_imported_with_the_listed_commands_are_found(name: str, tmp_path: Path) -> None:
    """Each file that the listed commands create is the raw or the labels of the volume."""
    volume = catalogue()[name]
    made = [Path(word) for step in volume.prepare for word in re.findall(r"-o (\S+)", step)]
    for path in made:
        (tmp_path / path).mkdir()
    addresses = [each for each in (volume.raw, volume.labels) if each is not None]
    places = set()
    for address in addresses:
        with contextlib.suppress(InputError):
            places.add(Path(found(address, (str(tmp_path),), name)).name)
    assert places == {path.name for path in made}


def test_boxes_of_kasthuri15_have_an_origin() -> None:
    boxes = {name: volume for name, volume in catalogue().items() if name.startswith("kasthuri15")}
    assert len(boxes) == 3
    for volume in boxes.values():
        assert volume.origin_voxels is not None
        z, y, x = volume.origin_voxels
        assert f"z{z}_y{y}_x{x}_" in str(volume.labels)
        assert f"z {z}, y {y}, x {x}" in volume.title
        assert f"x {x}, y {y}, z {z} " in volume.prepare[0]


def test_labels_of_a_box_are_found_in_the_whole_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/reference/datasets.md shows for Kasthuri15, with a smaller origin."""
    monkeypatch.chdir(tmp_path)
    shape = (20, 30, 40)
    raw = zarr.create_array("whole.zarr", shape=shape, dtype="uint8", attributes={"voxel_size": [30, 6, 6]})
    raw[:] = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with h5py.File("labels.hdf", "w") as file:
        file["main"] = np.arange(120, dtype=np.uint32).reshape(4, 5, 6)
        file["main"].attrs["resolution"] = [30, 6, 6]
        file["main"].attrs["offset"] = [10 * 30, 7 * 6, 3 * 6]
    wanted = VolumeSettings.model_validate(
        {"volume": "kasthuri15_subset1", "raw": "whole.zarr", "labels": "labels.hdf:main"}
    )
    opened = open_labelled(wanted, ["."])
    assert (opened.shift, tuple(opened.region.begin), tuple(opened.region.shape)) == ((10, 7, 3), (10, 7, 3), (4, 5, 6))
    assert np.array_equal(opened.read_labels(opened.region), np.arange(120).reshape(4, 5, 6))


def test_two_volumes_of_one_file_are_never_taken_for_an_import(tmp_path: Path) -> None:
    (tmp_path / "sample_A_20160501.zarr").mkdir()
    with pytest.raises(InputError, match=r"cremi\.org"):
        found("sample_A_20160501.hdf:volumes/labels/neuron_ids", (str(tmp_path),), "cremi_a")


def test_extending_merges_and_refuses_cycles(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"extends": "b", "optimiser": {"steps": 5}}))
    (tmp_path / "b.yaml").write_text(yaml.safe_dump({"extends": "a"}))
    with pytest.raises(InputError, match="which extends it"):
        load_configuration(tmp_path / "a.yaml", TrainingSettings)
    (tmp_path / "sub").mkdir()
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"extends": "sub/../c"}))
    with pytest.raises(InputError, match="which extends it"):
        load_configuration(tmp_path / "c.yaml", TrainingSettings)
    base = load_configuration(configuration_path("seg_snemi3d_d5_u200"), TrainingSettings)
    ema = load_configuration(configuration_path("seg_snemi3d_d5_u200_ema"), TrainingSettings)
    assert ema.consistency is not None
    assert base.consistency is not None
    assert (ema.consistency.teacher, base.consistency.teacher) == ("ema", "weight_sharing")
    assert ema.optimiser == base.optimiser
    with pytest.raises(InputError, match="ac3"):
        load_configuration(_edited(tmp_path, volume="ac33"), TrainingSettings)


def _edited(folder: Path, **volume: str) -> Path:
    content = {"name": "x", "data": {"training": [volume], "validation": volume},
               "optimiser": {"steps": 1, "patch_voxels": [8, 8, 8]}}  # fmt: skip
    (folder / "x.yaml").write_text(yaml.safe_dump(content))
    return folder / "x.yaml"


def test_padded_cremi_labels_are_placed_and_huge_ids_fit(tmp_path: Path) -> None:
    """The layout of CREMI: labels smaller than raw, placed by an offset in nm; 2^64 - 1 means no label."""
    raw = np.random.default_rng(0).integers(0, 256, (12, 20, 24), np.uint8)
    ids = np.full((6, 10, 12), 5_000_000_000, np.uint64)
    ids[3:], ids[0, 0] = 7, np.iinfo(np.uint64).max
    with h5py.File(tmp_path / "sample_A.hdf", "w") as file:
        file["volumes/raw"], file["volumes/labels/neuron_ids"] = raw, ids
        for name in ("volumes/raw", "volumes/labels/neuron_ids"):
            file[name].attrs["resolution"] = (40.0, 4.0, 4.0)
        file["volumes/labels/neuron_ids"].attrs["offset"] = (120.0, 20.0, 24.0)
    settings = VolumeSettings(raw="sample_A.hdf:volumes/raw", labels="sample_A.hdf:volumes/labels/neuron_ids")
    opened = open_labelled(settings, [str(tmp_path)])
    with pytest.raises(InputError, match=r"region 0:3,0:20,0:24 of .* has no labels: .* covers 3:9,5:15,6:18"):
        open_labelled(settings.model_copy(update={"region": "0:3,:,:"}), [str(tmp_path)])
    assert opened.shift == (3, 5, 6)
    assert tuple(opened.region.begin) == (3, 5, 6)
    turned = [each for each in orientations("in_plane") if each.permutation == (0, 1, 2)]
    read = read_labelled(opened, patch=(8, 10, 12), turned=turned, descriptor_sigma_nm=0)
    assert np.array_equal(read.raw[1:7], raw[3:9, 5:15, 6:18])
    assert read.raw.shape == (8, 10, 12), "mirrored to the size of a patch"
    assert np.array_equal(read.raw[0], raw[4, 5:15, 6:18])
    assert np.array_equal(read.raw[7], raw[7, 5:15, 6:18])
    assert set(np.unique(read.labels[1:7])) == {0, read.labels[2, 5, 5], read.labels[5, 0, 0]}
    assert not read.labels[1, 0].any()
    assert read.labels[2, 5, 5] != read.labels[5, 0, 0]


def test_a_missing_encoder_is_named(tmp_path: Path) -> None:
    settings = load_configuration(configuration_path("seg_cremi_d10_u200"), TrainingSettings)
    assert settings.network.encoder == "runs/pretraining_cremi"
    with pytest.raises(InputError, match="neuroseg pretrain"):
        load_encoder(tmp_path / "runs", build_network("superhuman", {}), "superhuman", {})


@pytest.mark.parametrize(
    ("name", "command", "kind"),
    [
        ("pretraining_snemi3d", "neuroseg pretrain", TrainingSettings),
        ("seg_snemi3d_d5_u200", "neuroseg train", PretrainingSettings),
    ],
)
def test_a_configuration_of_another_command_is_refused(
    name: str, command: str, kind: type[TrainingSettings] | type[PretrainingSettings]
) -> None:
    path = configuration_path(name)
    with pytest.raises(InputError, match=f"{name}.yaml belongs to another command\nhint: use {command} {path}"):
        read_settings(path, kind)


def test_a_configuration_of_no_command_is_refused_with_its_own_fault(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: {}\noptimisr: {{steps: 3}}\n".format(configuration_path("fib25_d5").with_suffix("")))
    with pytest.raises(InputError, match=r"unknown key 'optimisr' \(did you mean optimiser"):
        read_settings(path, TrainingSettings)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"consistency": "ema"}, "consistency and data.unlabelled require each other; give both or neither"),
        (
            {"network": {"encoder": "a", "bundle": "b"}},
            "network: encoder and bundle are both given; remove one of them",
        ),
        ({"data": {"training": {"volume": "ac3"}}}, "data.training: Input should be a valid tuple, found a mapping"),
        ({"name": list(range(200))}, f"name = {repr(list(range(200)))[:100]}...: Input should be a valid string"),
    ],
)
def test_an_error_of_several_keys_does_not_repeat_the_configuration(
    change: dict[str, Any], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.yaml"
    content = {"name": "bad", "data": {}, "optimiser": {"steps": 1, "patch_voxels": [8, 8, 8]}}
    path.write_text(yaml.safe_dump({**content, **change}))
    with pytest.raises(InputError) as failed:
        read_settings(path, TrainingSettings)
    assert str(failed.value) == f"{path}: {told}"
