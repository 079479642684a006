"""Checkpoints are whole or refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from neuroseg.errors import InputError
from neuroseg.training.learning.records import load_checkpoint, save_checkpoint


@pytest.mark.parametrize("left", [0, 10, 600, -1])
def test_a_truncated_checkpoint_is_named(left: int, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 3, "network": {"weight": torch.zeros(200)}})
    assert load_checkpoint(path)["step"] == 3
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(
        InputError, match=r"cannot read the checkpoint .*checkpoint\.pt: .*\nhint: .*--restart"
    ) as refused:
        load_checkpoint(path)
    assert "\n" not in refused.value.args[0]


def test_a_checkpoint_is_on_the_disk_before_it_replaces_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda number: (done.append(os.readlink(f"/proc/self/fd/{number}")), fsync(number))
    )
    monkeypatch.setattr(os, "replace", lambda source, target: (done.append(str(target)), replace(source, target)))
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    assert done == [str(path.with_suffix(".partial").resolve()), str(path)]
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]
