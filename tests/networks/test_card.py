"""A card is checked when it is opened: one error names file, key, value and expectation."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml

from neuroseg.cli.main import exit_code
from neuroseg.errors import InputError
from neuroseg.networks.bundle import open_bundle

BAD = (0, -1, float("nan"), float("inf"), 1e9, 10**9, 10**400, True, "4", "1e9", None, [], {}, [1], "2026-13-45")
# The accepted ones of these values, by key. All others are refused.
TAKEN: dict[str, tuple[Any, ...]] = {
    "tile.context_voxels.1": (0,),
    "segmentation.threshold": (0,),
    "offsets.0.0": (-1,),
    "network.parameters.widths": ([1],),
}
NUMBERS = (
    "tile.output_voxels.0", "tile.context_voxels.1", "tile.batch", "voxel_size_nm.2", "raw_scale", "offsets.0.0",
    "segmentation.threshold", "network.parameters.widths.0", "network.parameters.outputs",
)  # fmt: skip
SECTIONS = (
    "tile.output_voxels", "tile.context_voxels", "voxel_size_nm", "offsets", "segmentation.scoring", "tile.blend",
    "network.architecture", "network.parameters", "network.parameters.widths", "tile", "network",
)  # fmt: skip


@pytest.fixture
def copied(tiny_model: str, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    return folder


def edit(folder: Path, key: str, value: Any) -> None:
    """Replace one value of a card."""
    card = yaml.safe_load((folder / "card.yaml").read_text())
    *above, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    place = card
    for part in above:
        place = place[part]
    place[last] = value
    (folder / "card.yaml").write_text(yaml.safe_dump(card))


@pytest.mark.parametrize("key", [*NUMBERS, *SECTIONS])
def test_every_bad_value_in_a_card_is_refused(key: str, copied: Path) -> None:
    original = (copied / "card.yaml").read_text()
    for value in BAD:
        (copied / "card.yaml").write_text(original)
        edit(copied, key, value)
        if any(value == taken and type(value) is type(taken) for taken in TAKEN.get(key, ())):
            open_bundle(str(copied))
            continue
        with pytest.raises(InputError) as failed:
            open_bundle(str(copied)).check()
        told = str(failed.value)
        assert "card.yaml" in told, (value, told)
        assert len(told) < 700
        assert any(part in told for part in key.split(".")[-2:]), (value, told)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("tile.output_voxels", [0, 16, 16], "tile.output_voxels.0 = 0: Input should be greater than or equal to 1"),
        ("tile.output_voxels", [1024, 1024, 1024], "batch 1 with output_voxels (1024, 1024, 1024) and context_voxels "
         "(8, 8, 8) needs 1124864000 voxels per forward pass; at most 134217728"),
        ("tile.batch", 100_000, "tile.batch = 100000: Input should be less than or equal to 65536"),
        ("tile.batch", 30_000, "batch 30000 with output_voxels"),
        ("tile.output_voxels", [15, 16, 16], "the network does not accept windows of [31, 32, 32] voxels"),
        ("voxel_size_nm", [1e9, 10, 10], "voxel_size_nm.0 = 1000000000.0: Input should be less than or equal to"),
        ("raw_scale", 0, "raw_scale = 0: Input should be greater than or equal to 1"),
        ("segmentation.threshold", True, "segmentation.threshold = True: true and false"),
        ("segmentation.threshold", 1.5, "segmentation.threshold = 1.5: Input should be less than or equal to 1"),
        ("segmentation.scoring", "median", "segmentation.scoring = 'median': unknown scoring 'median'"),
        ("offsets", [[-1, 0, 0], [0, -1, 0]], "no affinity channel links direct neighbours along x"),
        ("offsets", [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, -9]], "4 offsets, but the network has 3 outputs"),
        ("network.parameters", {"widths": [4, 8], "output": 3}, "unknown parameter of the architecture light 'output' "
         "(valid: norm, outputs, skips, widths)\nhint: did you mean outputs"),
        ("network.parameters", {"widths": [4, 8], "skips": "no"}, "network.parameters.skips = 'no': expected a value "
         "such as True"),
        ("name", "../other", "name = '../other': expected a name of printable characters without /"),
        ("extends", "fib25_light", "unknown key 'extends'"),
    ],
)  # fmt: skip
def test_an_error_names_key_value_and_what_is_expected(key: str, value: Any, told: str, copied: Path) -> None:
    edit(copied, key, value)
    with pytest.raises(InputError) as failed:
        open_bundle(str(copied)).check()
    assert str(copied / "card.yaml") in str(failed.value)
    assert told in str(failed.value)


@pytest.mark.parametrize(
    "text",
    ["", pytest.param("[" * 100_000, id="nested"), "- a", "a: 2026-13-45", "{1: 2}", "a: *b", "\0", "name: {"],
)
def test_a_card_that_is_no_mapping_is_named(text: str, copied: Path) -> None:
    (copied / "card.yaml").write_text(text)
    with pytest.raises(InputError, match=r"card\.yaml"):
        open_bundle(str(copied))


def test_nested_yaml_references_do_not_fill_the_memory(copied: Path) -> None:
    """Each line repeats the line before ten times: 10^30 values in 31 lines."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 31)]
    (copied / "card.yaml").write_text("\n".join([*lines, "voxel_size_nm: *a30"]))
    with pytest.raises(InputError, match="voxel_size_nm") as failed:
        open_bundle(str(copied))
    assert len(str(failed.value)) < 10_000


def header(size: int, content: bytes = b"") -> bytes:
    return struct.pack("<Q", size) + content


def bare_header(**entries: Any) -> bytes:
    text = json.dumps(entries).encode()
    return header(len(text), text)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0", b"not weights", header(2**62, b"{}"), header(10, b"{}"), header(2, b"{}"), bare_header(a=1),
        bare_header(a={"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}),
    ],
)  # fmt: skip
def test_weights_that_are_none_are_one_line_and_a_hint(
    content: bytes, copied: Path, raw_volume: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "weights.safetensors").write_bytes(content)
    assert exit_code(["run", raw_volume, "--model", str(copied), "-o", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert str(copied / "weights.safetensors") in told
    assert told.removesuffix("hint: copy the bundle again\n").count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_truncated_weights_are_refused(copied: Path) -> None:
    whole = (copied / "weights.safetensors").read_bytes()
    for length in itertools.chain(range(64), range(64, len(whole), len(whole) // 20)):
        (copied / "weights.safetensors").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"weights\.safetensors"):
            open_bundle(str(copied)).check()


def test_weights_that_are_not_numbers_are_refused_before_a_run(copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "weights.safetensors")
    weights["stem.bias"][1] = float("nan")
    save_file(weights, copied / "weights.safetensors")
    with pytest.raises(InputError, match=r"contain NaN or infinite values in stem\.bias"):
        open_bundle(str(copied)).check()


def test_an_impossible_blend_is_refused_before_a_run(
    raw_volume: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from neuroseg.networks.architectures import build_network
    from neuroseg.networks.bundle import save_bundle
    from neuroseg.networks.card import Card, NetworkCard, TileCard

    with torch.random.fork_rng():
        network = build_network("mala", {"widths": [2, 2]})
    card = Card(
        name="valid",
        network=NetworkCard(architecture="mala", parameters={"widths": [2, 2]}),
        offsets=((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
        voxel_size_nm=(10, 10, 10),
        tile=TileCard(output_voxels=(8, 10, 10), context_voxels=(6, 12, 12)),
    )
    save_bundle(tmp_path / "valid", card, network.state_dict())
    command = ["predict", raw_volume, "--model", str(tmp_path / "valid"), "-o", str(tmp_path / "out")]
    assert exit_code([*command, "--blend", "gaussian"]) == 2
    assert "so blend gaussian is impossible" in capsys.readouterr().err
    assert not os.path.exists(tmp_path / "out")
