"""The command line as Python functions: the same options, and a run with its arrays."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

import neuroseg
from neuroseg.cli import run as commands
from neuroseg.errors import InputError
from neuroseg.runs.options import Options
from neuroseg.segmentation.segments import segments_table
from neuroseg.tables import NODES
from tests.conftest import make_volume

OF_COMMANDS_ALONE = {"config", "json", "report"}


@pytest.fixture(scope="module")
def made(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> neuroseg.Run:
    folder = tmp_path_factory.mktemp("api")
    return neuroseg.run(
        make_volume(folder / "V.zarr", (48, 48, 48)),
        model=tiny_model,
        output=folder / "w",
        blocks=(16, 32, 48),
        executor="serial",
    )


def test_a_run_shows_its_arrays_and_segments(made: neuroseg.Run) -> None:
    labels = made.segmentation
    assert labels.shape == (48, 48, 48)
    assert labels.voxel_size_nm == (10, 10, 10)
    section = labels[10]
    assert section.dtype == np.uint64
    np.testing.assert_array_equal(section, np.asarray(labels)[10])
    assert made.affinities.shape == (3, *labels.shape)
    assert made.status()["state"] == "done"
    table, whole = made.segments(), np.asarray(labels)
    ids, voxels = np.unique(whole[whole > 0], return_counts=True)
    np.testing.assert_array_equal(table["segment"], ids)
    np.testing.assert_array_equal(table["voxels"], voxels)
    where = np.argwhere(whole == ids[0])
    assert [table[f"begin_{axis}"][0] for axis in "zyx"] == where.min(axis=0).tolist()
    assert [table[f"end_{axis}"][0] for axis in "zyx"] == (where.max(axis=0) + 1).tolist()
    np.testing.assert_allclose([table[f"centre_{axis}"][0] for axis in "zyx"], where.mean(axis=0))


def test_another_threshold_and_a_truth(made: neuroseg.Run) -> None:
    labels = str(made.path / "segmentation.zarr")
    assert made.evaluate(labels)["voi_sum"] == 0
    swept = made.evaluate(labels, roi="0:16,:,:", sweep=True)
    assert len(swept["sweep"]) > 5
    before = made.segments()["segment"].size
    again = neuroseg.segment(made, threshold=0.0, executor="serial", blocks=np.array([16, 32, 48]))
    assert len(made.segmentation) == 48
    assert again == made == neuroseg.open_run(made.path)
    assert made.segments()["segment"].size >= before


def test_errors_are_those_of_the_command_line(made: neuroseg.Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no run\.yaml"):
        neuroseg.open_run(tmp_path)
    with pytest.raises(InputError, match=r"--threshold 2\.0 is not between 0 and 1"):
        neuroseg.segment(made.path, threshold=2.0)
    with pytest.raises(InputError, match="a ndarray is not a path"):
        neuroseg.run(np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown stage to restart"):
        made.segment(restart="fragmnts")
    with pytest.raises(InputError, match="has no segmentation yet"):
        _ = neuroseg.Run(tmp_path / "w").segmentation


@pytest.mark.parametrize("verb", ["predict", "segment", "run"])
def test_functions_take_the_options_of_their_commands(verb: str) -> None:
    of_command = inspect.signature(getattr(commands, verb)).parameters.keys() - OF_COMMANDS_ALONE - {"input"}
    function = inspect.signature(getattr(neuroseg, verb))
    assert function.parameters.keys() == of_command
    assert function.parameters.keys() - {"cluster", "dask_address", "restart"} <= Options.model_fields.keys()
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in function.parameters.values())


def test_importing_the_package_loads_no_heavy_module() -> None:
    program = "import sys, neuroseg; print(sorted({'numpy', 'torch', 'zarr', 'pydantic'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = neuroseg.nothing


def test_the_functions_are_listed_before_their_first_use() -> None:
    program = "import neuroseg; print({*neuroseg.__all__} - {*dir(neuroseg)})"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "set()"


def test_fragments_of_no_segment_and_no_fragments_at_all() -> None:
    nodes = {name: np.array([3, 5], dtype) for name, dtype in NODES.items()}
    lookup = {"fragment": np.array([3, 5], np.uint64), "segment": np.array([0, 1], np.uint64)}
    table = segments_table(nodes, lookup)
    assert {name: column.tolist() for name, column in table.items()} == {
        "segment": [1], "voxels": [5], "fragments": [1], "centre_z": [1.0], "centre_y": [1.0], "centre_x": [1.0],
        "begin_z": [5], "end_z": [6], "begin_y": [5], "end_y": [6], "begin_x": [5], "end_x": [6],
    }  # fmt: skip
    none = {name: np.zeros(0, dtype) for name, dtype in NODES.items()}
    empty = segments_table(none, {name: np.zeros(0, np.uint64) for name in ("fragment", "segment")})
    assert {len(column) for column in empty.values()} == {0}


def test_a_predictor_gives_the_bytes_of_a_run(made: neuroseg.Run, tiny_model: str) -> None:
    raw = zarr.open_array(str(made.path.parent / "V.zarr"), mode="r")
    predictor = neuroseg.Predictor(tiny_model, device="cpu")
    expected = np.asarray(made.affinities)
    assert np.array_equal(predictor.affinities(raw), expected)
    assert np.array_equal(predictor.affinities(raw[:], roi="3:20,:,7:40"), expected[:, 3:20, :, 7:40])
    assert predictor.offsets == ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
    assert len(predictor.voxel_size_nm) == 3


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.zeros((3, 4), np.uint8), r"shape \(3, 4\), expected three axes"),
        (np.zeros((3, 0, 4), np.uint8), "at least one voxel"),
        (np.zeros((3, 4, 4), np.float32), "data type float32, expected uint8"),
        ([[[1]]], "expected three axes"),
    ],
)
def test_a_predictor_refuses_other_arrays(raw: object, message: str, tiny_model: str) -> None:
    with pytest.raises(InputError, match=message):
        neuroseg.Predictor(tiny_model).affinities(raw)
