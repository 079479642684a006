"""The server: who may ask, and what is answered."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest

from neuroseg.storage.arrays import open_array
from neuroseg.storage.workspace import Workspace
from tests.viewer.conftest import Served, make_run


def asked(url: str, body: bytes | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body)) as response:
            content = response.read()
            packed = response.headers.get("Content-Encoding") == "gzip"
            return response.status, gzip.decompress(content) if packed else content
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize(
    "rest", ["", "panel.js", "data/raw/g0/info", "data/raw/g0/0/0-4_0-4_0-1", "cut?threshold=0.5", "curve", "beginning"]
)
def test_a_wrong_token_is_refused(served: Served, rest: str) -> None:
    base, token = served.url.rstrip("/").rsplit("/", 1)
    assert asked(served.url + rest)[0] == 200
    for wrong in ("x", token[:-1], token + "x"):
        assert asked(f"{base}/{wrong}/{rest}")[0] == 404
    assert asked(f"{base.rsplit('/', 1)[0]}/{rest}")[0] == 404


def test_it_listens_on_this_machine_only(served: Served) -> None:
    assert served.url.startswith("http://127.0.0.1:")


def test_a_chunk_has_the_voxels_of_the_layer(served: Served, finished: tuple[Workspace, str]) -> None:
    status, content = asked(served.url + "data/fragments/g0/0/10-40_5-80_3-4")
    assert status == 200
    expected = np.asarray(open_array(finished[0].fragments)[3, 5:80, 10:40])
    np.testing.assert_array_equal(np.frombuffer(content, "<u8").reshape(75, 30), expected)


@pytest.mark.parametrize(
    "rest",
    [
        "data/nothing/g0/info", "data/raw/g0/9/0-4_0-4_0-1", "data/raw/g0/0/0-4000_0-4_0-1",
        "data/raw/g0/x/0-4_0-4_0-1", "data/raw/g0/mesh/7", "data/raw/g0/../../cut", "../../../etc/passwd",
        "page/panel.js", "main.js", "%2e%2e/setup.cfg",
    ],
)  # fmt: skip
def test_what_does_not_exist_is_404(served: Served, rest: str) -> None:
    assert asked(served.url + rest)[0] == 404


@pytest.mark.parametrize("query", ["", "threshold=x", "threshold=0.5&min_size=x", "threshold=0.5&selected=a"])
def test_a_question_that_makes_no_sense_is_400(served: Served, query: str) -> None:
    assert asked(f"{served.url}cut?{query}")[0] == 400


def test_the_page_holds_the_state_for_its_own_address(served: Served) -> None:
    page = asked(served.url)[1].decode()
    begun = json.loads(page.split('id="neuroseg">')[1].split("</script>")[0])
    assert [layer["name"] for layer in begun["state"]["layers"]] == [
        "raw", "affinities", "fragments", "segmentation", "truth",
    ]  # fmt: skip
    assert begun["state"]["dimensions"] == {"x": [1e-8, "m"], "y": [1e-8, "m"], "z": [4e-8, "m"]}
    assert all(layer["source"]["url"].startswith("precomputed://SERVER/") for layer in begun["state"]["layers"])
    assert "</script" not in json.dumps(begun)


def test_a_browser_that_does_not_wait_any_more_leaves_no_traceback(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    busy, go_on = threading.Event(), threading.Event()
    threads = served.viewer.chunk_threads  # type: ignore[attr-defined]
    waiting = [threads.submit(lambda: (busy.set(), go_on.wait(20))) for _ in range(threads._max_workers)]
    assert busy.wait(20)
    address = urllib.parse.urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        request = f"GET {address.path}data/raw/g0/0/0-4_0-4_0-1 HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n"
        connection.sendall(request.encode())
        time.sleep(0.3)
    time.sleep(0.3)
    go_on.set()
    for each in waiting:
        each.result(20)
    assert asked(served.url + "data/raw/g0/0/0-4_0-4_0-1")[0] == 200
    assert not caplog.records


def test_the_threshold_in_use_is_written(tmp_path, tiny_model: str) -> None:  # type: ignore[no-untyped-def]
    from neuroseg.runs.plan import read_plan
    from neuroseg.viewer.segment_command import SegmentCommand

    workspace, _ = make_run(tmp_path, tiny_model)
    command = SegmentCommand(workspace.path)
    assert command.state() == {"command": "", "running": False, "error": ""}
    assert command.start(0.37, 50)["running"]
    assert command.start(0.9, 0)["command"].endswith("--threshold 0.37 --min-size 50"), "one at a time"
    command.wait()
    assert command.state()["error"] == ""
    assert (read_plan(workspace).threshold, read_plan(workspace).min_size_voxels) == (0.37, 50)
    command.start(7.0, 0)
    command.wait()
    assert command.state()["error"].startswith("error: ")
    command.stop()
