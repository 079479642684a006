"""Numbers in configurations: one error that names the key, its value and what is expected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from neuroseg.errors import InputError
from neuroseg.execution.cluster.site import site_named
from neuroseg.runs.options import memory_bytes, options_from


def read(tmp_path: Path, text: str) -> str:
    """Return the error of a configuration file."""
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(InputError) as raised:
        options_from(tmp_path / "run.yaml")
    message, _, hint = str(raised.value).partition("\nhint: ")
    assert "\n" not in message + hint
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("threshold: true", "threshold = True: true and false"),
        ("workers: yes", "workers = True: true and false"),
        ("level: no", "level = False: true and false"),
        ("voxel_size: [true, 4, 4]", "voxel_size = [True, 4, 4]: true and false"),
        ("threshold: .nan", "threshold = nan: Input should be a finite number"),
        ("range: [0, .inf]", "range.1 = inf: Input should be a finite number"),
        ("block_timeout: .inf", "block_timeout = inf: Input should be a finite number"),
        ("block_timeout: 1.0e+300", "--block-timeout 1e+300 is not between 0 (exclusive) and 3.16224e+07 seconds"),
        ("block_timeout: 0", "--block-timeout 0 is not between 0 (exclusive) and"),
        ("workers: -3", "--workers -3 is not between 1 and"),
        ("workers: 1000000000000000000000", "--workers 1000000000000000000000 is not between 1 and 100000"),
        ("workers: 2.5", "workers = 2.5: Input should be a valid integer"),
        ("workers: two", "workers = 'two': Input should be a valid integer"),
        ("level: -1", "--level -1 is not between 0 (full resolution) and 100"),
        ("min_size: 1.0e+23", "--min-size '1e+23' is neither a number of voxels (500) nor a volume"),
        ("min_size: 1e23", "--min-size '1e23' is neither a number of voxels (500) nor a volume"),
        ("min_size: 100000000000000000000000", "is more than 1e+18 voxels, the largest allowed size"),
        ("min_size: -5", "--min-size '-5' is neither a number of voxels"),
        ("min_size: true", "min_size = True: Input should be a valid string"),
        ("blocks: [0, 64, 64]", "--blocks '0,64,64' contains 0, expected 1 or more"),
        ("blocks: 1.0e+300", "--blocks '1e+300' is neither a whole number nor three"),
        ("blocks: true", "blocks = True: Input should be a valid string"),
        ("threshold: 1.5", "--threshold 1.5 is not between 0 and 1"),
    ],
)
def test_a_number_that_no_run_could_use_is_named(text: str, found: str, tmp_path: Path) -> None:
    assert found in read(tmp_path, text)


def test_numbers_as_text_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("threshold: 4e-1\nworkers: '2'\nper_section: on\nforce: yes\n")
    options = options_from(tmp_path / "run.yaml")
    assert (options.threshold, options.workers, options.per_section, options.force) == (0.4, 2, "on", True)


@pytest.mark.parametrize(("name", "meant"), [("predict", "affinities"), ("segment", "fragments or edges")])
def test_a_command_in_the_place_of_a_stage_names_the_stage(name: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(f"stages: {{{name}: {{gpus: 1}}}}\n")
    with pytest.raises(InputError, match=f"unknown stage '{name}'; did you mean {meant}?"):
        site_named(str(tmp_path / "site.yaml"))


def test_true_is_no_number_of_gpus(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("default: {gpus: yes}\n")
    with pytest.raises(InputError, match=r"default\.gpus = True: true and false"):
        site_named(str(tmp_path / "site.yaml"))


@pytest.mark.parametrize(
    ("text", "expected"), [("16G", 2**34), ("900M", 900 * 2**20), ("1.5 GB", 3 * 2**29), ("1TiB", 2**40)]
)
def test_memory_has_a_unit(text: str, expected: int) -> None:
    assert memory_bytes(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("16", "--memory '16' is not a number with the unit M, G or T, for example 16G"),
        ("G", "--memory 'G' is not a number"),
        ("-2G", "--memory '-2G' is not a number"),
        ("100M", "--memory '100M' is less than 512M, which one worker needs"),
    ],
)
def test_another_memory_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        options_from(memory=text)
