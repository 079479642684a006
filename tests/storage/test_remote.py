"""Volumes on servers: a real S3-speaking server and a web server here give what the same zarr on disk gives."""

from __future__ import annotations

import contextlib
import functools
import http.server
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import obstore
import pytest
import zarr

from neuroseg import pipeline
from neuroseg.errors import InputError
from neuroseg.geometry import whole
from neuroseg.options import Options
from neuroseg.storage import remote
from neuroseg.storage.files import open_any
from neuroseg.storage.workspace import default_workspace
from neuroseg.training.unlabelled import Crops, Region
from tests.conftest import make_volume

SHAPE = (24, 32, 32)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of an S3-speaking server with an empty bucket `lab`."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    bucket = urllib.request.Request(f"http://127.0.0.1:{port}/lab", method="PUT")
    limit = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(bucket, timeout=5).close()
            break
        except OSError:
            assert time.monotonic() < limit, "the server does not answer"
            time.sleep(0.2)
    yield port
    process.kill()
    process.wait()


class Line:
    """A connection to the server that can be cut: whoever connects meanwhile is turned away."""

    def __init__(self, server: int) -> None:
        self._server, self.port = server, free_port()
        self._open: list[socket.socket] = []
        self.mend()

    def mend(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def cut(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for each in self._open:
            # Closing alone would not wake whoever waits for it.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                near, _ = listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._server))
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.fixture
def bucket(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """The environment in which s3:// is that server."""
    line = Line(server)
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "somebody"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.port}"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    yield line
    line.cut()


def uploaded(path: str, name: str) -> str:
    """Put a zarr's files into the bucket; returns their address."""
    address = f"s3://lab/{name}"
    store = obstore.store.from_url(address, client_options={"allow_http": True})
    for file in sorted(Path(path).rglob("*")):
        if file.is_file():
            obstore.put(store, file.relative_to(path).as_posix(), file.read_bytes())
    return address


def test_a_run_on_a_bucket_gives_the_bytes_of_a_run_on_disk(bucket: Line, tiny_model: str, tmp_path: Path) -> None:
    volume = make_volume(tmp_path / "v.zarr", SHAPE)
    address = uploaded(volume, "deep/v.zarr")
    made = []
    for path, executor in ((volume, "serial"), (address, "local")):
        given = {"volume": path, "model": tiny_model, "output": str(tmp_path / executor), "blocks": "16", "workers": 1}
        workspace, _ = pipeline.run(Options.model_validate({**given, "executor": executor}))
        made.append(zarr.open_array(str(workspace.segmentation / "0"), mode="r")[:])
    np.testing.assert_array_equal(*made)


def test_a_server_that_is_gone_for_a_while_costs_nothing_but_time(bucket: Line, tmp_path: Path) -> None:
    path = make_volume(tmp_path / "v.zarr", SHAPE)
    volume = open_any(uploaded(path, "v.zarr"))
    bucket.cut()
    mending = threading.Timer(4.0, bucket.mend)
    began = time.monotonic()
    mending.start()
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


def test_what_is_not_there_or_not_read_is_named(bucket: Line, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="s3://lab/absent is not a zarr array or group"):
        open_any("s3://lab/absent")
    with pytest.raises(InputError, match="ftp:// is not read; valid: s3://"):
        open_any("ftp://lab/v.zarr")
    with pytest.raises(InputError, match="not on a server"):
        pipeline.run(Options.model_validate({"volume": "v.zarr", "output": "s3://lab/w.neuroseg"}))


def test_a_server_that_is_not_there_is_told_soon_and_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_FIRST_PATIENCE", timedelta(seconds=1))
    address = f"http://127.0.0.1:{free_port()}/v.zarr"
    with pytest.raises(InputError, match=rf"{address} cannot be read") as told:
        open_any(address)
    assert "\n\n" not in str(told.value)


def test_addresses_hold_no_credentials() -> None:
    for address in ("https://me:secret@lab.org/v.zarr", "https://lab.org/v.zarr?sig=secret"):
        with pytest.raises(InputError, match="credentials go in the environment") as told:
            open_any(address)
        assert "secret" not in str(told.value)
    assert not remote.is_remote("/data/run://odd/v.zarr")


def test_crops_of_a_volume_on_a_server_are_refused(bucket: Line, tmp_path: Path) -> None:
    address = uploaded(make_volume(tmp_path / "v.zarr", SHAPE), "crops.zarr")
    with pytest.raises(InputError, match="copy the volume first"):
        Crops([Region(address, whole(SHAPE))], (8, 8, 8), "in_plane")


def test_a_volume_on_a_server_has_its_workspace_here() -> None:
    assert default_workspace("s3://lab/deep/volume.zarr") == Path("volume.neuroseg")
    assert default_workspace("https://lab.org/volume.zarr/raw/") == Path("volume.neuroseg")
    assert default_workspace("gs://lab/raw") == Path("raw.neuroseg")
