"""A run whose artifacts lie on a real S3 server gives the same bytes as a run on disk."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import zarr

from neuroseg.checks.score import Request, score
from neuroseg.errors import InputError, RunRefusedError
from neuroseg.evaluation.artifacts import compared
from neuroseg.runs import pipeline
from neuroseg.runs.finished import is_finished
from neuroseg.runs.options import Options
from neuroseg.storage.cleaning import intermediates, remove
from neuroseg.storage.naming import default_workspace, is_workspace
from neuroseg.storage.remote_path import RemotePath, remote_path
from neuroseg.storage.trees import bytes_at
from neuroseg.storage.workspace import Workspace, named_workspace, workspace_of
from tests.conftest import make_volume
from tests.storage.s3 import Line, uploaded

SHAPE = (24, 32, 32)
ADDRESS = "s3://lab/deep/w.neuroseg"


@pytest.fixture
def place(bucket: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    """An empty folder to work in, and nothing at the address."""
    monkeypatch.chdir(tmp_path)
    remote_path("s3://lab/deep").remove_all()
    return bucket


def ran(model: str, output: str, **more: Any) -> Workspace:
    volume = "v.zarr" if Path("v.zarr").exists() else make_volume(Path("v.zarr"), SHAPE)
    given = {"volume": volume, "model": model, "output": output, "blocks": "16", "workers": 1, **more}
    return pipeline.run(Options.model_validate(given))[0]


def differences(one: Workspace, other: Workspace) -> list[str]:
    return [name for name, difference in compared(one, other) if difference is not None]


def test_volume_and_artifacts_on_a_server_give_the_bytes_of_a_run_on_disk(place: Line, tiny_model: str) -> None:
    here = ran(tiny_model, "here.neuroseg", executor="serial")
    there = ran(tiny_model, ADDRESS, executor="local", volume=uploaded("v.zarr", "v.zarr"))
    names = [name for name, _ in compared(here, there)]
    assert {"affinities.zarr", "fragments.zarr", "edges", "merges/tree", "segmentation.zarr/0"} <= set(names)
    assert differences(here, there) == []
    assert there.path == Path("w.neuroseg")
    assert not list(there.path.rglob("*.zarr")) + list(there.path.rglob("*.parquet"))
    assert zarr.open_array(str(here.segmentation / "0"), mode="r")[:].any()


def test_a_run_on_a_server_can_be_resumed_changed_scored_and_cleaned(place: Line, tiny_model: str) -> None:
    there = ran(tiny_model, ADDRESS, executor="serial")
    _, again = pipeline.run(Options.model_validate({"volume": "v.zarr", "output": "w.neuroseg"}))
    assert {summary.blocks for summary in again} == {0}
    pipeline.segment(Options.model_validate({"volume": ADDRESS, "threshold": 0.2}))
    other = ran(tiny_model, "other.neuroseg", executor="serial", threshold=0.2)
    assert differences(there, other) == []
    scores = score(Request(ADDRESS, "other.neuroseg/segmentation.zarr", sweep=True))
    assert scores["voi_sum"] == 0
    paths = intermediates(there, "fragments")
    assert sum(map(bytes_at, paths)) > 0
    metadata = there.artifact("affinities.zarr/zarr.json")
    metadata.unlink()  # as an interrupted removal leaves it
    assert not there.affinities.exists()
    remove(intermediates(there, "fragments"))
    assert intermediates(there, "fragments") == []
    assert not there.affinities.is_dir()
    assert there.segmentation.exists()
    assert is_finished(*pipeline.workspace_at(ADDRESS))


def test_damaged_artifacts_on_a_server_are_recomputed(place: Line, tiny_model: str) -> None:
    there = ran(tiny_model, ADDRESS, executor="serial")
    other = ran(tiny_model, "other.neuroseg", executor="serial", threshold=0.2)
    artifacts = there.artifacts
    assert isinstance(artifacts, RemotePath)
    for cut in ("fragments.zarr/c/0/0/0", "merges/nodes.parquet", "merges/tree.parquet"):
        whole = (artifacts / cut).read_bytes()
        (artifacts / cut).write(whole[: len(whole) // 2])
    pipeline.segment(Options.model_validate({"volume": "w.neuroseg", "threshold": 0.2}))
    assert differences(there, other) == []


def test_a_run_survives_a_server_that_is_away_for_seconds(place: Line, tiny_model: str) -> None:
    here = ran(tiny_model, "here.neuroseg", executor="serial")
    timers = [threading.Timer(after, do) for after, do in ((1.0, place.cut), (5.0, place.restore))]
    for timer in timers:
        timer.start()
    there = ran(tiny_model, ADDRESS, executor="local")
    for timer in timers:
        timer.join()
    assert differences(here, there) == []


def test_an_address_belongs_to_one_folder(place: Line, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = ran(tiny_model, ADDRESS, executor="serial")
    folder, volume = there.path.resolve(), str(Path("v.zarr").resolve())
    given = Options(volume=volume, model=tiny_model, output=ADDRESS, blocks="16", executor="serial")
    elsewhere, copied = folder.parent / "elsewhere", folder.parent / "copied"
    for each in (elsewhere, copied):
        each.mkdir()
    shutil.copytree(folder, copied / folder.name)
    for each in (elsewhere, copied):
        monkeypatch.chdir(each)
        with pytest.raises(RunRefusedError, match=f"belongs to the workspace {folder}"):
            pipeline.run(given)
    assert not is_workspace(elsewhere / folder.name)
    shutil.rmtree(folder)
    _, summaries = pipeline.run(given)  # with the owner removed, the copy counts as the moved folder
    assert {summary.blocks for summary in summaries} == {0}


def test_a_refused_address_can_be_replaced_by_another(place: Line, tiny_model: str) -> None:
    given = Options(volume=make_volume(Path("v.zarr"), SHAPE), model=tiny_model, blocks="16", executor="serial")
    remote_path("s3://lab/deep/taken.neuroseg/notes").write(b"of somebody")
    for wrong, refusal, message in (
        ("s3://absent-bucket/w.neuroseg", OSError, "absent-bucket"),
        ("s3://lab/deep/taken.neuroseg", RunRefusedError, "is not empty, and it is not a workspace"),
    ):
        with pytest.raises(refusal, match=message):
            pipeline.run(given.model_copy(update={"output": wrong}))
    assert remote_path("s3://lab/deep/taken.neuroseg/notes").read_bytes() == b"of somebody"
    Path("w.neuroseg/store.yaml").write_text("{artifacts: s3://lab/never.neuroseg, token: x}")
    workspace, _ = pipeline.run(given.model_copy(update={"output": "w.neuroseg"}))
    assert workspace.artifacts == Path("w.neuroseg")
    with pytest.raises(InputError, match="is already the workspace of another run"):
        workspace_of(ADDRESS)


def test_invalid_addresses_are_refused() -> None:
    for address, message in (
        ("https://lab.org/w.neuroseg", r"cannot write to https:// addresses \(valid: s3://"),
        ("s3://lab/w.zarr", "hint: use an address such as s3://BUCKET/NAME.neuroseg"),
        ("s3://w.neuroseg", "hint: use an address such as s3://BUCKET/NAME.neuroseg"),
        ("s3://lab/w#1.neuroseg", "contains #"),
    ):
        with pytest.raises(InputError, match=message):
            workspace_of(address)
    assert named_workspace("s3://lab/v.zarr") is None
    assert named_workspace("https://lab.org/w.neuroseg") is None
    assert default_workspace(ADDRESS) == Path("w.neuroseg")


def test_a_place_on_a_server_behaves_like_a_folder(place: Line) -> None:
    top = remote_path("s3://lab/deep/tree/")
    assert str(top / "a") == "s3://lab/deep/tree/a"
    assert not top.exists()
    assert list(top.iterdir()) == []
    assert (top / "a").size is None
    (top / "a" / "b.bin").write(bytes(range(200)))
    (top / "x.zarr" / "c").write(b"chunk")
    assert top.is_dir()
    assert not top.is_file()
    assert (top / "a" / "b.bin").is_file()
    assert [path.name for path in top.iterdir()] == ["a", "x.zarr"]
    assert not (top / "x.zarr").exists()  # without its metadata
    (top / "x.zarr" / "zarr.json").write(b"{}")
    with (top / "a" / "b.bin").open("rb") as file:
        file.seek(-3, 2)
        assert file.read() == bytes([197, 198, 199])
        file.seek(0)
        assert file.read(2) == bytes([0, 1])
    with pytest.raises(FileNotFoundError):
        (top / "none").open("rb")
    assert (top / "claim").write_new(b"1")
    assert not (top / "claim").write_new(b"2")
    assert (top / "claim").read_bytes() == b"1"
    assert (top / "x.zarr").exists()
    assert sorted(path.name for path, _ in top.files()) == ["b.bin", "c", "claim", "zarr.json"]
    assert bytes_at(top) == 200 + 1 + 5 + 2
    assert bytes_at(top / "claim") == 1
    top.remove_all()
    assert not top.is_dir()


def test_errors_of_a_server_are_os_errors(place: Line) -> None:
    path = remote_path("s3://absent-bucket/w.neuroseg")
    with pytest.raises(OSError, match="absent-bucket") as raised:
        path.write(b"1")
    assert raised.value.errno is not None
    assert "\n\n" not in str(raised.value)


def test_a_partly_removed_zarr_does_not_count(place: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata are removed first."""
    top = remote_path("s3://lab/deep/tree")
    for name in ("zarr.json", "0/zarr.json", "0/c/0", "0/c/1"):
        (top / "x.zarr" / name).write(b"{}")
    calls: list[str] = []
    delete = obstore.delete
    monkeypatch.setattr(obstore, "delete", lambda store, key: (calls.append(key), delete(store, key)))
    (top / "x.zarr").remove_all()
    removed = [key.removeprefix("deep/tree/x.zarr") for key in calls]
    assert removed[:3] == ["", "/zarr.json", "/0/zarr.json"]
    assert sorted(removed[3:]) == ["/0/c/0", "/0/c/1"]


def test_removal_works_on_servers_that_report_missing_objects(tmp_path: Path) -> None:
    """S3 does not report them, but other servers do, as does this store on disk."""
    top = RemotePath("file://", "w", obstore.store.LocalStore(tmp_path))
    top.remove_all()
    (top / "none").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (top / "none").unlink()


def test_only_the_ranges_that_are_read_are_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    path = RemotePath("memory://", "w", obstore.store.MemoryStore()) / "a.bin"
    content = np.random.default_rng(0).bytes(300_000)
    path.write(content)
    fetched: list[tuple[int, int]] = []
    get_range = obstore.get_range

    def counted(store: Any, key: str, *, start: int, length: int) -> Any:
        fetched.append((start, length))
        return get_range(store, key, start=start, length=length)

    monkeypatch.setattr(obstore, "get_range", counted)
    with path.open("rb") as file:
        file.seek(-8, 2)
        assert file.read() == content[-8:]
        file.seek(-70_000, 2)
        assert file.read(10) == content[-70_000:-69_990]
        file.seek(-100, 2)
        assert file.read() == content[-100:]
    assert fetched[0] == (300_000 - (1 << 16), 1 << 16)
    assert len(fetched) == 2
