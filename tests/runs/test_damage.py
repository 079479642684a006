"""Truncated or altered files are found when they are read, reported, and never part of a result."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from scipy import ndimage

from neuroseg.errors import NeurosegError
from neuroseg.runs import pipeline
from neuroseg.runs.options import Options
from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from tests.conftest import temporary_kept

OFFSETS = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]

# An artifact, the stage that reads it, and what makes it again.
READERS = [
    ("provisional.zarr/c", "edges", "fragments"),
    ("fragments.zarr/c", "relabel", "edges"),
    ("entries", "edges", "fragments"),
    ("edges", "agglomeration", "edges"),
    ("nodes", "agglomeration", "edges"),
    ("merges/tree.parquet", "lookup", "agglomeration"),
    ("merges/nodes.parquet", "lookup", "agglomeration"),
    ("merges/lookup.npy", "relabel", "lookup"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with affinities and their finished segmentation, with its temporary artifacts."""
    folder = tmp_path_factory.mktemp("whole")
    smooth = ndimage.gaussian_filter(np.random.default_rng(5).random((3, 20, 30, 34)), (0, 1.5, 2, 2))
    values = np.round(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    attributes = {"offsets": OFFSETS, "voxel_size": [10, 10, 10]}
    array = zarr.create_array(str(folder / "A.zarr"), shape=values.shape, dtype="u1", attributes=attributes)
    array[:] = values
    with temporary_kept():
        pipeline.segment(options_in(folder))
    return folder


def options_in(folder: Path) -> Options:
    given = {"affinities": str(folder / "A.zarr"), "output": str(folder / "w"), "blocks": "20,16,20"}
    return Options.model_validate({**given, "executor": "serial"})


@pytest.fixture
def options(whole: Path, tmp_path: Path) -> Options:
    """The options of a copy of the finished segmentation, to be damaged."""
    shutil.copytree(whole / "w", tmp_path / "w")
    return options_in(whole).model_copy(update={"output": str(tmp_path / "w")})


def largest_file(path: Path) -> Path:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return max(files, key=lambda file: file.stat().st_size)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def alter(file: Path) -> None:
    """Alter a byte of the data. The middle of a small table may be its footer, which has no checksum."""
    content = bytearray(file.read_bytes())
    content[len(content) // 8] ^= 0xFF
    file.write_bytes(content)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def labels(workspace: Workspace) -> np.ndarray:
    return np.asarray(open_array(workspace.segmentation / "0")[:])


def redo(workspace: Workspace, reader: str) -> None:
    """Unmark the blocks of a stage."""
    workspace.ledger(reader, {}).forget_blocks()
    (workspace.path / "ledger" / "published").unlink()


def damages(artifact: str) -> list[Callable[[Path], None]]:
    """The ways to damage a file. A mapped array has no checksum. If a stage's only file is missing, the stage runs."""
    found = [cut_short, emptied]
    if not artifact.endswith(".npy"):
        found.append(alter)
    if "merges" not in artifact:
        found.append(Path.unlink)
    return found


CASES = [(*reader, damage, "serial") for reader in READERS for damage in damages(reader[0])]
# How it is found does not depend on who finds it; a worker may fail of it in its work or while it is set up.
CASES += [(*reader, cut_short, "local") for reader in READERS if reader[0] in ("entries", "merges/lookup.npy")]


@pytest.mark.usefixtures("keep_temporary")
@pytest.mark.parametrize(("artifact", "reader", "maker", "damage", "executor"), CASES)
def test_what_is_damaged_is_made_again(
    options: Options, artifact: str, reader: str, maker: str, damage: Callable[[Path], None], executor: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    workspace, _ = pipeline.segment(options)
    expected, file = labels(workspace), largest_file(workspace.path / artifact)
    content = file.read_bytes()
    damage(file)
    redo(workspace, reader)
    pipeline.segment(options.model_copy(update={"executor": executor, "workers": 2}))
    assert np.array_equal(labels(workspace), expected)
    assert file.read_bytes() == content
    assert f"1 block of stage {maker}" in caplog.text
    assert not list((workspace.path / "failures").glob("*"))


@pytest.mark.usefixtures("keep_temporary")
def test_damage_of_what_cannot_be_made_again_is_named(options: Options) -> None:
    workspace, _ = pipeline.segment(options)
    expected = labels(workspace)
    cut_short(largest_file(workspace.fragments / "c"))
    shutil.rmtree(workspace.path / "provisional.zarr")
    redo(workspace, "relabel")
    with pytest.raises(NeurosegError, match=r"cannot be recomputed, because provisional\.zarr was removed"):
        pipeline.segment(options)
    assert np.array_equal(labels(workspace), expected), "what is left is the whole of the last finished run"


@pytest.mark.parametrize(
    ("damage", "message"), [(alter, "1 block of stage relabel failed"), (cut_short, "recomputing failed: .*injected")]
)
def test_a_recomputation_that_fails_costs_nothing(
    options: Options, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None], message: str
) -> None:
    """The marks and the later results stay until the damaged file is replaced."""
    workspace, _ = pipeline.segment(options)
    expected, marks = labels(workspace), workspace.ledger("agglomeration", {}).done()
    damage(largest_file(workspace.fragments / "c"))
    redo(workspace, "relabel")

    def broken(*given: object, **more: object) -> None:
        raise ValueError("injected")

    with monkeypatch.context() as patch:
        patch.setattr("neuroseg.edges.stage.block_nodes", broken)
        with pytest.raises(NeurosegError, match=message):
            pipeline.segment(options)
    assert workspace.ledger("agglomeration", {}).done() == marks
    assert np.array_equal(labels(workspace), expected)
    pipeline.segment(options)
    assert np.array_equal(labels(workspace), expected)
    assert workspace.ledger("agglomeration", {}).done() == marks


@pytest.mark.usefixtures("keep_temporary")
def test_two_stages_that_are_damaged_are_made_again(options: Options) -> None:
    workspace, _ = pipeline.segment(options)
    expected = labels(workspace)
    for artifact in ("fragments.zarr/c", "entries"):
        cut_short(largest_file(workspace.path / artifact))
    redo(workspace, "relabel")
    pipeline.segment(options)
    assert np.array_equal(labels(workspace), expected)


@pytest.mark.parametrize("damage", [Path.unlink, emptied])
def test_an_array_without_its_description_is_made_again_whole(options: Options, damage: Callable[[Path], None]) -> None:
    """Creating it again removes all its shards."""
    workspace, _ = pipeline.segment(options)
    expected, fragments = labels(workspace), np.asarray(open_array(workspace.fragments)[:])
    damage(workspace.fragments / "zarr.json")
    redo(workspace, "relabel")
    pipeline.segment(options)
    assert np.array_equal(open_array(workspace.fragments)[:], fragments)
    assert np.array_equal(labels(workspace), expected)


@pytest.mark.parametrize("damage", [cut_short, alter])
def test_a_damaged_shard_of_the_users_own_is_named(whole: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    array = zarr.open_array(str(whole / "A.zarr"), mode="r")
    again = zarr.create_array(
        str(tmp_path / "A.zarr"), data=array[:], attributes=dict(array.attrs),
        compressors=zarr.codecs.ZstdCodec(checksum=True),
    )  # fmt: skip
    assert again.shape[0] == 3
    damage(largest_file(tmp_path / "A.zarr" / "c"))
    with pytest.raises(NeurosegError, match=r"cannot read voxels .* of .*A\.zarr: "):
        pipeline.segment(options_in(tmp_path))


def test_damaged_affinities_are_predicted_again(
    raw_volume: str, tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"volume": raw_volume, "model": tiny_model, "output": str(tmp_path / "w"), "blocks": "32"}
    options = Options.model_validate({**given, "executor": "serial"})
    workspace, _ = pipeline.run(options)
    expected, file = labels(workspace), largest_file(workspace.affinities / "c")
    content = file.read_bytes()
    cut_short(file)
    redo(workspace, "fragments")
    pipeline.run(options)
    assert np.array_equal(labels(workspace), expected)
    assert file.read_bytes() == content
    assert "1 block of stage affinities is missing or truncated on disk; recomputing" in caplog.text
