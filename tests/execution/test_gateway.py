"""The door to the scheduler: who knows the secret comes through, nobody else reaches it."""

from __future__ import annotations

import contextlib
import logging
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from neuroseg.errors import NeurosegError
from neuroseg.execution.gateway import Gateway
from neuroseg.execution.handshake import is_proof, new_secret, nonce, proof
from neuroseg.execution.ports import listening_port, loopback_address
from neuroseg.execution.relay import connected, open_relay

SECRET = b"s" * 32


@pytest.fixture
def scheduler() -> Iterator[tuple[int, list[bytes]]]:
    """A server on the loopback interface that sends back what it hears, its port, and all that it heard."""
    heard: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            while piece := connection.recv(100):
                heard.append(piece)
                connection.sendall(piece)

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listening.getsockname()[1], heard
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def at(gateway: Gateway) -> list[tuple[str, int]]:
    return [("127.0.0.1", gateway.port)]


def test_who_knows_the_secret_reaches_the_scheduler(scheduler: tuple[int, list[bytes]]) -> None:
    with (
        Gateway(SECRET, ("127.0.0.1", scheduler[0]), interface="127.0.0.1") as gateway,
        connected(at(gateway), SECRET) as worker,
    ):
        worker.sendall(b"a block please")
        assert worker.recv(100) == b"a block please"
    assert scheduler[1] == [b"a block please"]


def test_another_secret_is_refused_before_a_byte_is_passed_on(
    scheduler: tuple[int, list[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    with Gateway(SECRET, ("127.0.0.1", scheduler[0]), interface="127.0.0.1") as gateway:
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(NeurosegError, match="does not know the secret"),
        ):
            connected(at(gateway), b"x" * 32)
        with socket.create_connection(at(gateway)[0]) as stranger:
            stranger.recv(32)
            stranger.sendall(b"AcquireBlock".ljust(64, b" "))
            assert stranger.recv(100) == b""
    assert scheduler[1] == []
    assert "does not know the secret" in caplog.text
    assert SECRET.decode() not in caplog.text


def test_an_answer_that_was_overheard_is_worth_nothing() -> None:
    of_head, of_worker = nonce(), nonce()
    shown = proof(SECRET, "worker", of_head, of_worker)
    assert is_proof(shown, SECRET, "worker", of_head, of_worker)
    assert not is_proof(shown, SECRET, "worker", nonce(), of_worker)
    assert not is_proof(shown, SECRET, "head", of_head, of_worker), "nor may it be sent back to the worker"


def test_a_head_that_does_not_know_the_secret_gets_no_work_done() -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def pretend() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"n" * 32)
            connection.recv(64)
            connection.sendall(b"p" * 32)
            connection.recv(1)

    pretending = threading.Thread(target=pretend)
    pretending.start()
    with listening, pytest.raises(NeurosegError, match="wrong proof"):
        connected([("127.0.0.1", listening.getsockname()[1])], SECRET)
    pretending.join()


def test_the_first_address_that_answers_is_taken(scheduler: tuple[int, list[bytes]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    with (
        Gateway(SECRET, ("127.0.0.1", scheduler[0]), interface="127.0.0.1") as gateway,
        connected([("127.0.0.1", nobody), *at(gateway)], SECRET) as worker,
    ):
        worker.sendall(b"here")
        assert worker.recv(100) == b"here"
    with pytest.raises(NeurosegError, match="head does not answer"):
        connected([("127.0.0.1", nobody)], SECRET)


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


def relayed(connect: Callable[[], socket.socket], lost: Callable[[], None]) -> socket.socket:
    return socket.create_connection(("127.0.0.1", open_relay(connect, lost)))


def test_the_relay_says_when_the_head_is_gone_and_only_then(scheduler: tuple[int, list[bytes]]) -> None:
    lost = threading.Event()
    with Gateway(SECRET, ("127.0.0.1", scheduler[0]), interface="127.0.0.1") as gateway:
        connect = partial(connected, at(gateway), SECRET)
        with relayed(connect, lost.set) as left:
            left.sendall(b"a")
            assert left.recv(1) == b"a"
        assert not lost.wait(0.5), "the worker left by itself"
        staying = relayed(connect, lost.set)
        staying.sendall(b"b")
        assert staying.recv(1) == b"b"
    assert lost.wait(10)
    assert staying.recv(1) == b""
    staying.close()


def test_the_relay_is_for_this_users_processes_alone(
    scheduler: tuple[int, list[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    """Whom the kernel's table does not name as this user's at 127.0.0.1 is a stranger."""
    with Gateway(SECRET, ("127.0.0.1", scheduler[0]), interface="127.0.0.1") as gateway:
        port = open_relay(partial(connected, at(gateway), SECRET), lambda: None)
        elsewhere = socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0))
        mapped = socket.socket(socket.AF_INET6)
        mapped.connect(("::ffff:127.0.0.1", port))
        for stranger in (elsewhere, mapped):
            with stranger, contextlib.suppress(ConnectionError):
                stranger.sendall(b"AcquireBlock")
                assert stranger.recv(100) == b""
    assert scheduler[1] == []
    assert caplog.text.count("not of this user") == 2


def test_a_port_that_is_taken_is_named() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(NeurosegError, match=rf"cannot listen at port {taken.getsockname()[1]}"),
        Gateway(SECRET, ("127.0.0.1", 1), interface="127.0.0.1", port=taken.getsockname()[1]),
    ):
        pass


def test_the_port_at_an_address_of_our_own_is_found_whatever_else_listens() -> None:
    ours = loopback_address()
    assert ours.startswith("127.")
    assert ours != loopback_address()
    assert listening_port(ours) is None
    with socket.create_server(("127.0.0.1", 0)), socket.create_server(("0.0.0.0", 0)):
        assert listening_port(ours) is None, "servers that open meanwhile are not the scheduler"
        with socket.create_server((ours, 0)) as listening:
            assert listening_port(ours) == listening.getsockname()[1]
    assert listening_port(ours) is None
