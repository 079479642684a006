"""The listener and its channels accept workers that know the secret. Other connections do not delay them."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import socket
import stat
import threading
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from neuroseg.errors import NeurosegError
from neuroseg.execution.channel import Channel, authenticate, connect
from neuroseg.execution.listener import Listener, new_secret

SECRET = b"s" * 32
Address = tuple[str, int]


def at(listener: Listener) -> list[Address]:
    return [("127.0.0.1", listener.port)]


def next_in(listener: Listener, seconds: float = 10) -> Channel:
    """The channel of the next worker."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if new := listener.new_channels():
            return new[0]
        time.sleep(0.01)
    raise AssertionError("nobody new")


def local_listener(secret: bytes = SECRET, port: int = 0) -> Listener:
    return Listener(secret, interface="127.0.0.1", port=port)


def test_who_knows_the_secret_is_heard_and_answered() -> None:
    with local_listener() as listener:
        worker = connect(at(listener), SECRET)
        head = next_in(listener)
        head.send({"stage": "edges", "block": 7})
        assert worker.receive() == {"stage": "edges", "block": 7}
        worker.send({"done": 7})
        assert head.receive() == {"done": 7}
        worker.close()
        assert head.receive() is None
        head.send({"end": True})  # to nobody: lost, not raised
        head.close()


def test_another_secret_is_refused_and_told_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    with local_listener() as listener, caplog.at_level(logging.WARNING):
        with pytest.raises(NeurosegError, match="authentication failed"):
            connect(at(listener), b"x" * 32)
        time.sleep(0.1)
        assert listener.new_channels() == []
    assert "does not know the secret" in caplog.text
    assert SECRET.decode() not in caplog.text


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def cut_off(connection: Connection) -> bool:
    """Whether the other end has closed the connection."""
    try:
        connection.recv_bytes()
    except (EOFError, OSError):
        return True
    return False


def test_nothing_of_a_stranger_is_read_beyond_its_proof(tmp_path: Path) -> None:
    """A pickle instead of the proof, or a long message, is neither loaded nor kept."""
    with local_listener() as listener:
        for said in (pickle.dumps(Harm(tmp_path / "executed")), b"\xff" * 1000):
            with socket.create_connection(at(listener)[0]) as stranger:
                connection = Connection(os.dup(stranger.fileno()))
                connection.recv_bytes()
                connection.send_bytes(said)
                assert cut_off(connection)
                connection.close()
        assert listener.new_channels() == []
    assert not (tmp_path / "executed").exists()


def test_a_head_that_does_not_know_the_secret_gets_no_work_done() -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def pretend() -> None:
        end, _ = listening.accept()
        connection = Connection(end.detach())
        connection.send_bytes(b"n" * 32)
        connection.recv_bytes()
        connection.send_bytes(b"p" * 32)
        connection.close()

    pretending = threading.Thread(target=pretend)
    pretending.start()
    with listening, pytest.raises(NeurosegError, match="no valid proof"):
        connect([("127.0.0.1", listening.getsockname()[1])], SECRET)
    pretending.join()


def test_a_worker_cannot_be_used_to_convince_another() -> None:
    """Passing one worker's nonce to another worker gives a worker's proof, which is not valid for a head."""
    ends = [socket.socketpair() for _ in range(2)]
    refused: list[Exception] = []

    def work(end: socket.socket) -> None:
        try:
            authenticate(end, SECRET, "worker")
        except PermissionError as error:
            refused.append(error)

    workers = [threading.Thread(target=work, args=(far,)) for _, far in ends]
    for each in workers:
        each.start()
    one, other = (Connection(near.detach()) for near, _ in ends)
    one.send_bytes(b"n" * 32)
    nonce = one.recv_bytes()[:32]
    other.send_bytes(nonce)
    one.send_bytes(other.recv_bytes()[32:])
    workers[0].join(20)
    assert len(refused) == 1
    for connection in (one, other):
        connection.close()
    workers[1].join(20)


def test_a_listener_that_can_open_no_more_files_lets_in_the_next_who_comes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with local_listener() as listener:
        started, refusals = threading.Thread.start, [RuntimeError("can't start new thread")]

        def start(thread: threading.Thread) -> None:
            if thread.name == "listener" and refusals:
                raise refusals.pop()
            started(thread)

        monkeypatch.setattr(threading.Thread, "start", start)
        with pytest.raises(NeurosegError):
            connect(at(listener), SECRET, timeout_s=1)
        connect(at(listener), SECRET).close()
        next_in(listener).close()
    assert "cannot accept a worker: can't start new thread" in caplog.text


def test_a_hundred_connections_that_say_nothing_hold_up_nobody() -> None:
    with local_listener() as listener, ExitStack() as silent:
        for _ in range(100):
            silent.enter_context(socket.create_connection(at(listener)[0]))
        began = time.monotonic()
        worker = connect(at(listener), SECRET)
        next_in(listener).close()
        assert time.monotonic() - began < 5
        worker.close()


def test_a_message_that_is_no_message_ends_the_connection() -> None:
    for said in (b"no json", b"[1, 2]", b"x" * (2 << 20)):
        one, other = socket.socketpair()
        channel, connection = Channel.over(one), Connection(other.detach())
        sending = threading.Thread(target=_send, args=(connection, said))
        sending.start()
        assert channel.receive() is None, said[:10]
        channel.close()
        sending.join()


def _send(connection: Connection, said: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.send_bytes(said)
    connection.close()


def test_the_first_address_that_answers_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = ("127.0.0.1", closed.getsockname()[1])
    with local_listener() as listener:
        connect([nobody, *at(listener)], SECRET).close()
        next_in(listener).close()
    with pytest.raises(NeurosegError, match="cannot connect to the head"):
        connect([nobody], SECRET)


def test_the_secret_is_readable_by_its_user_alone_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / ".secret"
    path.write_bytes(b"of a run that was killed")
    path.chmod(0o644)
    with new_secret(path) as secret:
        assert path.read_bytes() == secret != b"of a run that was killed"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()
    with new_secret(path) as other:
        assert other != secret


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NeurosegError, match=rf"cannot listen on port {port}"), local_listener(port=port):
            pass
