"""Fixtures with a real S3 server."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.storage.s3 import Line, free_port


@pytest.fixture(scope="session")
def server() -> Iterator[int]:
    """The port of an S3 server with an empty bucket `lab`."""
    for _ in range(3):
        port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if _answers(process, port):
            yield port
            process.kill()
            process.wait()
            return
    pytest.fail("the server does not start")


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server has created its bucket. Return False if another process took the port first."""
    bucket = urllib.request.Request(f"http://127.0.0.1:{port}/lab", method="PUT")
    limit = time.monotonic() + 60
    while process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(bucket, timeout=5):
            return True
        assert time.monotonic() < limit, "the server does not answer"
        time.sleep(0.2)
    return False


@pytest.fixture
def bucket(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """Set environment variables so that s3:// addresses reach the server through a connection that can be cut."""
    line = Line(server)
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "somebody"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.port}"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    yield line
    line.cut()
