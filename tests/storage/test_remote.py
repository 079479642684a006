"""Volumes on a real S3 server and on a web server have the same voxels as on disk."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import zarr

from neuroseg.errors import InputError
from neuroseg.geometry import whole
from neuroseg.storage import remote
from neuroseg.storage.naming import default_workspace
from neuroseg.training.data.unlabelled import Crops, Region
from neuroseg.volumes.addresses import open_any
from tests.conftest import make_volume
from tests.storage.s3 import Line, free_port, uploaded

SHAPE = (24, 32, 32)


def test_reading_resumes_after_the_server_was_away(bucket: Line, tmp_path: Path) -> None:
    path = make_volume(tmp_path / "v.zarr", SHAPE)
    volume = open_any(uploaded(path, "v.zarr"))
    bucket.cut()
    restoring = threading.Timer(4.0, bucket.restore)
    began = time.monotonic()
    restoring.start()
    voxels = volume.read(whole(SHAPE))
    assert time.monotonic() - began >= 4.0
    np.testing.assert_array_equal(voxels, zarr.open_array(path, mode="r")[:])


def test_volumes_are_read_from_web_servers(tmp_path: Path) -> None:
    path = make_volume(tmp_path / "v.zarr", SHAPE)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None: ...

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        volume = open_any(f"http://127.0.0.1:{web.server_port}/v.zarr")
        np.testing.assert_array_equal(volume.read(whole(SHAPE)), zarr.open_array(path, mode="r")[:])
        web.shutdown()


def test_missing_volumes_and_unknown_schemes_are_named(bucket: Line, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="s3://lab/absent is not a zarr array or group"):
        open_any("s3://lab/absent")
    with pytest.raises(InputError, match=r"ftp:// is not supported \(valid: s3://"):
        open_any("ftp://lab/v.zarr")


def test_a_server_that_does_not_answer_gives_a_short_error_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_OPENING_TIMEOUT", timedelta(seconds=1))
    address = f"http://127.0.0.1:{free_port()}/v.zarr"
    with pytest.raises(InputError, match=rf"cannot read {address}: ") as raised:
        open_any(address)
    assert "\n\n" not in str(raised.value)


def test_credentials_in_addresses_are_refused() -> None:
    for address in ("https://me:secret@lab.org/v.zarr", "https://lab.org/v.zarr?sig=secret"):
        with pytest.raises(InputError, match="set credentials as environment variables") as raised:
            open_any(address)
        assert "secret" not in str(raised.value)
    assert not remote.is_remote("/data/run://odd/v.zarr")


def test_crops_of_a_volume_on_a_server_are_refused(bucket: Line, tmp_path: Path) -> None:
    address = uploaded(make_volume(tmp_path / "v.zarr", SHAPE), "crops.zarr")
    with pytest.raises(InputError, match="hint: copy it first: neuroseg import"):
        Crops([Region(address, whole(SHAPE))], (8, 8, 8), "in_plane")


def test_the_workspace_of_a_volume_on_a_server_is_in_the_current_folder() -> None:
    assert default_workspace("s3://lab/deep/volume.zarr") == Path("volume.neuroseg")
    assert default_workspace("https://lab.org/volume.zarr/raw/") == Path("volume.neuroseg")
    assert default_workspace("gs://lab/raw") == Path("raw.neuroseg")
