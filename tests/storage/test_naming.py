"""A workspace gets a valid name next to its volume."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuroseg.storage.naming import default_workspace, is_unused


@pytest.mark.parametrize(
    ("volume", "workspace"),
    [
        ("/p/sample_A.hdf:volumes/raw", "/p/sample_A_volumes_raw.neuroseg"),
        ("/p/sample_A.hdf:/volumes/raw", "/p/sample_A_volumes_raw.neuroseg"),
        ("/p/f.h5:raw", "/p/f_raw.neuroseg"),
        ("f.h5:boundary_prob", "f_boundary_prob.neuroseg"),
        ("/p/V.zarr", "/p/V.neuroseg"),
        ("/p/V.zarr/raw", "/p/V.neuroseg"),
        ("/data/12:30/V.zarr", "/data/12:30/V.neuroseg"),
    ],
)
def test_the_workspace_is_next_to_the_file(volume: str, workspace: str) -> None:
    assert default_workspace(volume) == Path(workspace)


def test_datasets_of_a_file_do_not_collide() -> None:
    datasets = ["a/b_c", "a_b/c", "a/b/c", "raw?", "raw*", "raw", "volumes/raw", "volumes/labels/neuron_ids"]
    names = [default_workspace(f"/p/f.h5:{dataset}").name for dataset in datasets]
    assert len(set(names)) == len(names)
    assert all(not set('<>:"|?*\\/') & set(name) for name in names)
    assert all(default_workspace(f"/p/f.h5:{dataset}").parent == Path("/p") for dataset in datasets)


def test_a_folder_with_files_of_an_unstarted_run_is_unused(tmp_path: Path) -> None:
    for name in (".lock", ".lock.owner", ".lock.takeover", ".secret-0a1b", ".run.yaml.0a1b2c3d.partial"):
        (tmp_path / name).write_text("")
    assert is_unused(tmp_path)
    (tmp_path / "thesis.tex").write_text("")
    assert not is_unused(tmp_path)
