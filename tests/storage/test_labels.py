"""A finished segmentation replaces an earlier one in one step, and on a server without a copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import zarr

from neuroseg.errors import BlocksFailedError
from neuroseg.runs import pipeline
from neuroseg.runs.finished import is_finished
from neuroseg.runs.options import Options
from neuroseg.storage.arrays import create_group, open_array
from neuroseg.storage.labels import finished_name, labels_of, publish_segmentation, remove_unfinished, unfinished_name
from neuroseg.storage.remote import remote_store
from neuroseg.storage.remote_path import RemotePath, remote_path
from neuroseg.storage.workspace import Workspace
from neuroseg.volumes.volume import open_volume
from tests.conftest import make_volume
from tests.storage.s3 import Line

ADDRESS = "s3://lab/labels/w.neuroseg"


@pytest.fixture
def place(bucket: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, and nothing at the address."""
    monkeypatch.chdir(tmp_path)
    remote_path("s3://lab/labels").remove_all()


def described(*paths: str) -> dict[str, Any]:
    return {"ome": {"multiscales": [{"datasets": [{"path": path} for path in paths]}]}}


def segmented(output: str, model: str, threshold: float) -> Workspace:
    volume = "v.zarr" if Path("v.zarr").exists() else make_volume(Path("v.zarr"), (8, 16, 150))
    given = {"volume": volume, "model": model, "output": output, "blocks": "16", "executor": "serial"}
    return pipeline.run(Options.model_validate({**given, "threshold": threshold}))[0]


def seen_by_others() -> list[np.ndarray]:
    """Return the levels that a program finds that knows only the address and OME-NGFF."""
    group = zarr.open_group(remote_store(f"{ADDRESS}/segmentation.zarr"), mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]  # type: ignore[index, call-overload]
    return [np.asarray(group[dataset["path"]][:]) for dataset in datasets]


def levels_on_disk(workspace: Workspace) -> list[np.ndarray]:
    return [np.asarray(open_array(labels_of(workspace) / name)[:]) for name in ("0", "1")]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def test_full_resolution_on_a_disk_has_a_fixed_name(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    name = unfinished_name(workspace, "abc")
    for value in ("old", "new"):
        (tmp_path / name / "0").mkdir(parents=True)
        (tmp_path / name / "0" / "c").write_text(value)
        publish_segmentation(workspace, name)
    assert (labels_of(workspace) / "0" / "c").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == [finished_name(workspace, name)] == ["segmentation.zarr"]


def test_on_a_server_the_metadata_choose_the_folder() -> None:
    store = obstore.store.MemoryStore()
    workspace = Workspace(Path("w"))
    workspace.__dict__["artifacts"] = RemotePath("memory://", "w", store)
    image = workspace.segmentation
    old, new = (unfinished_name(workspace, token) for token in ("aa", "bb"))
    assert (old, finished_name(workspace, old)) == ("segmentation.zarr/aa", "segmentation.zarr/aa")
    for name in (old, new):
        (workspace.artifact(name) / "0" / "c").write(name.encode())  # type: ignore[union-attr]
    assert labels_of(workspace) == image
    remove_unfinished(workspace)
    assert (workspace.artifact(old) / "0").is_dir(), "nothing is finished"
    create_group(image, described("aa/0", "aa/1"))
    assert labels_of(workspace) == image / "aa"
    remove_unfinished(workspace, keep=new)
    assert workspace.artifact(new).is_dir()
    create_group(image, described("bb/0", "bb/1"))
    publish_segmentation(workspace, new)
    assert labels_of(workspace) == image / "bb"
    assert sorted(path.name for path in image.iterdir()) == ["bb", "zarr.json"]


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", json.dumps({"attributes": described("0")}).encode()])
def test_levels_directly_in_the_image_are_found(content: bytes) -> None:
    """They are there in damaged images, and in those of earlier versions."""
    workspace = Workspace(Path("w"))
    workspace.__dict__["artifacts"] = RemotePath("memory://", "w", obstore.store.MemoryStore())
    (workspace.segmentation / "zarr.json").write(content)  # type: ignore[union-attr]
    (workspace.segmentation / "0" / "c").write(b"")  # type: ignore[union-attr]
    assert labels_of(workspace) == workspace.segmentation
    remove_unfinished(workspace)
    assert (workspace.segmentation / "0").is_dir()


def test_another_threshold_is_seen_in_one_step(place: None, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (segmented(f"{t}.neuroseg", tiny_model, t) for t in (0.2, 0.45))
    before, after = levels_on_disk(first), levels_on_disk(second)
    assert not same(before, after)
    copied: list[str] = []
    monkeypatch.setattr(obstore, "copy", lambda store, key, to: copied.append(to))
    there = segmented(ADDRESS, tiny_model, 0.2)
    assert same(seen_by_others(), before)
    put = obstore.put
    seen: list[list[np.ndarray]] = []

    def noted(store: Any, key: str, *given: Any, **more: Any) -> Any:
        if not key.endswith("w.neuroseg/segmentation.zarr/zarr.json"):
            return put(store, key, *given, **more)
        seen.append(seen_by_others())
        done = put(store, key, *given, **more)
        seen.append(seen_by_others())
        return done

    monkeypatch.setattr(obstore, "put", noted)
    segmented(ADDRESS, tiny_model, 0.45)
    assert len(seen) == 2
    assert same(seen[0], before)
    assert same(seen[1], after)
    assert copied == []
    assert len(list(there.segmentation.iterdir())) == 2, "the earlier one is removed"
    levels = [open_volume(str(there.segmentation), level=level) for level in (0, 1)]
    assert [volume.shape for volume in levels] == [(8, 16, 150), (4, 8, 75)]


def test_a_run_that_fails_on_a_server_leaves_the_earlier_segmentation(
    place: None, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = (levels_on_disk(segmented(f"{t}.neuroseg", tiny_model, t)) for t in (0.2, 0.45))
    there = segmented(ADDRESS, tiny_model, 0.2)

    def broken(*given: object) -> None:
        raise MemoryError("once")

    with monkeypatch.context() as patch:
        patch.setattr("neuroseg.segmentation.stage.downsampled", broken)
        with pytest.raises(BlocksFailedError):
            segmented(ADDRESS, tiny_model, 0.45)
    assert same(seen_by_others(), before)
    assert not is_finished(*pipeline.workspace_at(ADDRESS))
    segmented(ADDRESS, tiny_model, 0.45)
    assert same(seen_by_others(), after)
    assert len(list(there.segmentation.iterdir())) == 2
    shard = next(path for path, _ in there.segmentation.files() if "/1/c/" in path.key)  # type: ignore[union-attr]
    shard.unlink()
    segmented(ADDRESS, tiny_model, 0.45)
    assert same(seen_by_others(), after), "a lost object is recomputed in place"
