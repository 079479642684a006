"""The lock of a workspace, on file systems with and without locks."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from neuroseg.errors import RunRefusedError
from neuroseg.storage import lock
from neuroseg.storage.lock import OWNER, Owner, is_locked, locked

# Holds the lock of a folder, with or without the kernel's locks, until its input ends.
HOLD = """
import errno, fcntl, sys
from pathlib import Path
from neuroseg.storage.lock import locked
if sys.argv[2] != "flock":
    def refused(descriptor, operation):
        raise OSError(int(sys.argv[2]), "injected")
    fcntl.flock = refused
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

HeldBy = Callable[[Path, str], subprocess.Popen[str]]


@pytest.fixture
def held_by() -> Iterator[HeldBy]:
    """Start a process that holds the lock of a folder. `how`: flock, or the error number that flock raises in it."""
    started = []

    def hold(folder: Path, how: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(params=["flock", str(errno.ENOSYS), str(errno.ENOLCK), str(errno.EOPNOTSUPP)])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """flock, or the error number that it raises."""
    monkeypatch.setattr(lock, "_WAIT_S", 0.2)
    if request.param != "flock":
        without_locks(monkeypatch, int(request.param))
    return str(request.param)


def without_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refused(descriptor: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)


def written(folder: Path, **changes: object) -> Owner:
    """Write the record of this process with some changes."""
    owner = dataclasses.replace(lock._this_process(flock=False), **changes)  # type: ignore[arg-type]
    (folder / OWNER).write_text(yaml.safe_dump(dataclasses.asdict(owner)))
    return owner


def test_one_process_holds_the_lock_and_releases_it(tmp_path: Path, disk: str, held_by: HeldBy) -> None:
    assert not is_locked(tmp_path)
    holder = held_by(tmp_path, disk)
    assert is_locked(tmp_path)
    with pytest.raises(RunRefusedError, match=rf"(?s)another run \(process {holder.pid} on .*-o$"), locked(tmp_path):
        pass
    holder.communicate()
    assert not is_locked(tmp_path)
    with locked(tmp_path) as killed:
        assert killed is None
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path, disk: str, held_by: HeldBy) -> None:
    holder = held_by(tmp_path, disk)
    holder.kill()
    holder.communicate()
    assert not is_locked(tmp_path)
    with locked(tmp_path) as killed:
        assert killed is not None
        assert killed.process == holder.pid
        assert is_locked(tmp_path)
    with locked(tmp_path) as killed:
        assert killed is None


@pytest.mark.parametrize("here", ["flock", "none"])
def test_machines_with_and_without_flock_exclude_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_by: HeldBy, here: str
) -> None:
    """Lustre may be mounted with flock on one node and without on the next."""
    monkeypatch.setattr(lock, "_WAIT_S", 0.2)
    held_by(tmp_path, str(errno.ENOSYS) if here == "flock" else "flock")
    if here == "none":
        without_locks(monkeypatch, errno.ENOSYS)
    assert is_locked(tmp_path)
    with pytest.raises(RunRefusedError, match="another run"), locked(tmp_path):
        pass


def test_a_file_system_without_locks_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_locks(monkeypatch, errno.ENOLCK)
    with caplog.at_level(logging.WARNING), locked(tmp_path):
        assert caplog.text.count(f"the file system of {tmp_path} has no locks") == 1


def test_a_run_on_another_machine_is_refused_with_the_file_to_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_WAIT_S", 0.1)
    without_locks(monkeypatch, errno.ENOSYS)
    written(tmp_path, host="node7", boot="another", process=1)
    assert is_locked(tmp_path)
    with (
        pytest.raises(RunRefusedError, match=rf"(?s)process 1 on node7 .*remove {tmp_path}/\.lock\.owner"),
        locked(tmp_path),
    ):
        pass
    (tmp_path / OWNER).unlink()
    with locked(tmp_path):
        pass


def test_an_ended_process_is_recognised_by_number_start_and_boot(tmp_path: Path) -> None:
    here = lock._this_process(flock=False)
    assert not here.is_gone()
    assert dataclasses.replace(here, begun="1").is_gone(), "its number was given to another process"
    assert dataclasses.replace(here, boot="before").is_gone(), "this machine was rebooted"
    assert not dataclasses.replace(here, host="node7", boot="other", begun="1").is_gone(), "it is on another machine"
    assert not dataclasses.replace(here, space="pid:[1]", begun="1").is_gone(), "it is in another namespace"


def test_an_unreadable_record_is_refused_without_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_WAIT_S", 0.1)
    for content in (b"", b"\xff", b"[1, 2]", b"process: 1"):
        (tmp_path / OWNER).write_bytes(content)
        with locked(tmp_path) as killed:
            assert killed is None, "flock shows that no process holds it"
    without_locks(monkeypatch, errno.ENOSYS)
    (tmp_path / OWNER).write_bytes(b"")
    with pytest.raises(RunRefusedError, match=r"(?s)another run \(unknown\).*remove "), locked(tmp_path):
        pass


def test_one_of_several_simultaneous_takeovers_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_WAIT_S", 0.1)
    without_locks(monkeypatch, errno.ENOSYS)
    written(tmp_path, begun="1")
    won, ready, leave = [], threading.Barrier(8), threading.Event()

    def run() -> None:
        ready.wait()
        try:
            with locked(tmp_path):
                won.append(1)
                leave.wait()
        except RunRefusedError:
            pass

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while sum(thread.is_alive() for thread in threads) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    leave.set()
    for thread in threads:
        thread.join()
    assert won == [1]


def test_a_killed_takeover_blocks_no_later_run(tmp_path: Path) -> None:
    """Two killed processes left their records: one held the lock, the other was replacing the record of the first."""
    gone = Owner(2**22 + 1, "elsewhere", "since then", "m", "b", "s", "1", flock=True)
    (tmp_path / OWNER).write_text(yaml.safe_dump(dataclasses.asdict(gone)))
    (tmp_path / lock.TAKEOVER).write_text("")
    with locked(tmp_path) as killed:
        assert killed == gone
