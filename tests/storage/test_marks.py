"""The file of marks: what was appended is read, and a line that a crash cut off does not count."""

import contextlib
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroseg.blocks import Block
from neuroseg.errors import DiskFullError
from neuroseg.storage.ledger import StageLedger
from neuroseg.storage.marks import Marks, MarksFile


@pytest.fixture
def marks(tmp_path: Path) -> MarksFile:
    return MarksFile(tmp_path / "fragments" / "marks")


def test_without_a_file_there_are_no_marks(marks: MarksFile) -> None:
    assert marks.state() == Marks()


def test_the_states_of_a_block(marks: MarksFile) -> None:
    marks.append("begun", 7)
    assert marks.state().running == {7}
    marks.append("postponed", 7)
    assert marks.state().running == set()
    marks.append("failed", 7, details="why")
    marks.append("begun", 7)
    assert (set(marks.state().failed), marks.state().running) == ({7}, {7})
    marks.append("done", 7, "9f2c")
    assert (marks.state().done[7].token, set(marks.state().failed), marks.state().running) == ("9f2c", set(), set())
    marks.append("released", 7, 8)
    assert marks.state().done.released.tolist() == [7], "8 is not done"
    marks.append("done", 9, "9f2c")
    marks.append("all_released")
    assert marks.state().done.released.tolist() == [7, 9]
    marks.append("done", 9, "9f2c")
    assert marks.state().done.released.tolist() == [7], "9 was computed once more"
    marks.append("cleared", 7, 9)
    assert (marks.state().done, marks.state().done.released.tolist()) == ({}, [])


def test_a_lost_block_may_have_left_files_until_the_run_ends(marks: MarksFile) -> None:
    marks.append("begun", 7)
    marks.append("lost", 7, details="its worker died")
    marks.append("done", 7, "9f2c")
    assert (marks.state().lost, set(marks.state().failed)) == ({7}, set())
    marks.append("ended")
    assert marks.state().lost == set()


def test_inputs_are_verified_until_the_stage_is_claimed_again(marks: MarksFile) -> None:
    marks.append("verified")
    assert marks.state().is_verified
    marks.append("claimed")
    assert not marks.state().is_verified


def test_forgetting_keeps_what_may_have_left_files(marks: MarksFile) -> None:
    for words in (("done", 7, "9f2c"), ("failed", 8), ("begun", 9), ("lost", 10), ("verified",), ("forgotten",)):
        marks.append(*words)
    assert marks.state() == Marks(running={9}, lost={10})


def test_a_lost_block_that_is_tried_again_has_not_failed(marks: MarksFile) -> None:
    for words in (("begun", 7), ("lost", 7), ("begun", 7), ("failed", 8), ("begun", 8)):
        marks.append(*words)
    assert set(marks.state().failed) == {8}


EVENTS = [("begun", 0), ("done", 1, "9f2c"), ("failed", 2), ("done", 3, "9f2c", "1.830"), ("cleared", 1)]


@given(st.integers(0, 300), st.integers(0, 2))
def test_a_crash_costs_the_last_lines_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, cut: int, more: int
) -> None:
    """The file is cut off anywhere. What is appended afterwards counts, and so do all whole lines."""
    folder = tmp_path_factory.mktemp("cut")
    written, expected = MarksFile(folder / "marks"), MarksFile(folder / "expected")
    ends = []
    for words in EVENTS:
        written.append(*words, details={"text": "\t\n"})
        ends.append(written.path.stat().st_size)
    content = written.path.read_bytes()
    written.path.write_bytes(content[:cut])
    for words, end in zip(EVENTS, ends, strict=True):
        if end <= cut or cut >= len(content):
            expected.append(*words)
    for number in range(more):
        written.append("begun", 10 + number)
        expected.append("begun", 10 + number)
    for reader in (written, MarksFile(written.path)):
        found, wanted = reader.state(), expected.state()
        assert {index: done.token for index, done in found.done.items()} == {
            index: done.token for index, done in wanted.done.items()
        }
        assert (found.failed.keys(), found.running) == (wanted.failed.keys(), wanted.running)


def test_only_what_is_new_is_read(marks: MarksFile, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(1000):
        marks.append("done", index, "9f2c")
    assert len(marks.state().done) == 1000
    applied: list[object] = []
    monkeypatch.setattr(Marks, "apply", lambda self, words, *more: applied.append(words))
    marks.state()
    MarksFile(marks.path).append("done", 1000, "9f2c")  # by another process
    marks.state()
    assert applied == [["done", "1000", "9f2c"]]


def test_a_line_that_is_being_written_is_read_when_it_is_whole(marks: MarksFile) -> None:
    marks.append("done", 1, "9f2c")
    whole = marks.path.read_bytes()
    marks.append("done", 2, "9f2c")
    content = marks.path.read_bytes()
    for end in range(len(whole), len(content)):
        marks.path.write_bytes(content[:end])
        assert set(marks.state().done) == {1}
    marks.path.write_bytes(content)
    assert set(marks.state().done) == {1, 2}


def test_another_file_in_its_place_is_read_from_the_beginning(marks: MarksFile) -> None:
    for index in range(3):
        marks.append("done", index, "9f2c")
    assert len(marks.state().done) == 3
    marks.path.unlink()
    assert marks.state() == Marks()
    for index in range(10, 20):
        marks.append("done", index, "81aa", details={"about": "x" * 100})
    assert set(marks.state().done) == set(range(10, 20))


def test_a_file_that_begins_with_the_same_events_is_another_file(marks: MarksFile) -> None:
    """A stage was restarted while another process did not look."""
    for details in ("long" * 100, "short", "long" * 1000):
        if marks.path.exists():
            marks.path.unlink()
        writer = MarksFile(marks.path)
        for index in range(3):
            writer.append("done", index, "9f2c", details=details)
        offsets = {index: done.offset for index, done in marks.state().done.items()}
        assert [parts[1] for _, parts in marks.lines(offsets)] == [json.dumps(details)] * 3


def test_lines_of_another_version_are_ignored(marks: MarksFile) -> None:
    for words in (("unheard", "of"), ("done",), ("begun", "x"), ("done", 1, "9f2c")):
        marks.append(*words)
    assert set(marks.state().done) == {1}


def test_the_parts_of_lines_are_found_again(marks: MarksFile) -> None:
    marks.append("begun", 1)
    marks.append("done", 1, "9f2c", "1.830", details={"seconds": 2.5}, files={"a": [830, 7]})
    offset = marks.state().done[1].offset
    parts = ["done 1 9f2c 1.830", '{"seconds": 2.5}', '{"a": [830, 7]}']
    assert list(marks.lines({1: offset})) == [(1, parts)]


def test_lines_of_a_stage_that_is_restarted_meanwhile_are_left_out(marks: MarksFile) -> None:
    for index in range(3):
        marks.append("done", index, "9f2c", details={})
    offsets = {index: done.offset for index, done in marks.state().done.items()}
    marks.path.unlink()
    assert list(marks.lines(offsets)) == []
    for index in range(9, 3, -1):
        marks.append("done", index, "9f2c", details={"about": "x" * index})
    assert list(marks.lines(offsets)) == []


def test_events_that_make_blocks_pending_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a crash of the machine removed them, the old marks of the blocks would be valid again."""
    block, flushed = Block(7, ((0, 4),) * 3, ((0, 4),) * 3), list[int]()
    ledger = StageLedger(tmp_path / "fragments", {})
    monkeypatch.setattr("neuroseg.storage.marks.os.fsync", flushed.append)
    ledger.mark_begun(block)
    ledger.mark_done(block, {})
    assert flushed == []
    ledger.clear([block])
    assert len(flushed) == 1
    ledger.mark_done(block, {})
    ledger.forget_blocks()
    assert len(flushed) == 2


@pytest.mark.parametrize(("failures", "is_written"), [(2, True), (9, False)])
def test_a_disk_that_does_not_answer_for_a_moment_ends_no_run(
    marks: MarksFile, failures: int, is_written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks.append("begun", 1)
    left, write = [OSError(errno.ESTALE, "stale")] * failures, os.write

    def failing(descriptor: int, content: bytes) -> int:
        if left:
            raise left.pop()
        return write(descriptor, content)

    monkeypatch.setattr("neuroseg.storage.marks.os.write", failing)
    monkeypatch.setattr("neuroseg.storage.marks._PAUSES_S", (0.0, 0.0, 0.0))
    with contextlib.nullcontext() if is_written else pytest.raises(OSError, match="stale"):
        marks.append("done", 1, "9f2c")
    assert (1 in marks.state().done) == is_written


def test_a_full_disk_is_named(marks: MarksFile) -> None:
    marks.path.parent.mkdir()
    marks.path.symlink_to("/dev/full")
    with pytest.raises(DiskFullError, match=r"the disk is full.*marks"):
        marks.append("begun", 1)


@pytest.fixture
def saved(marks: MarksFile, monkeypatch: pytest.MonkeyPatch) -> MarksFile:
    """A file whose state was saved after 20 of its 23 events."""
    monkeypatch.setattr("neuroseg.storage.marks._SAVED_AFTER_BYTES", 1)
    for words in (("claimed",), ("begun", 90), ("lost", 91), ("failed", 92), ("verified",)):
        marks.append(*words)
    for index in range(15):
        marks.append("done", index, "9f2c", "1.830", details={"host": "a", "process": 1, "voxels": 8})
    marks.save()
    for words in (("released", 3), ("done", 99, "9f2c"), ("cleared", 4)):
        marks.append(*words)
    return marks


def test_another_process_reads_only_what_follows_the_saved_state(
    saved: MarksFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, applied, apply = MarksFile(saved.path), list[str](), Marks.apply

    def counted(marks: Marks, words: list[str], *more: object) -> None:
        applied.append(words[0])
        apply(marks, words, *more)

    expected = saved.state()
    monkeypatch.setattr(Marks, "apply", counted)
    assert reader.state() == expected
    assert applied == ["released", "done", "cleared"]
    assert reader.state().done.released.tolist() == [3]
    assert (reader.state().running, reader.state().lost, set(reader.state().failed)) == ({90}, {91}, {91, 92})
    found, known = reader.state().done.records(), expected.done.records()
    assert (found.blocks.tolist(), found.voxels.tolist()) == (known.blocks.tolist(), known.voxels.tolist())
    assert reader.state().is_verified


@pytest.mark.parametrize("damage", ["cut", "other bytes", "missing", "another file", "shorter file", "other lines"])
def test_a_saved_state_that_does_not_fit_is_not_used(saved: MarksFile, damage: str) -> None:
    index, content = saved.path.with_name("marks.index"), saved.path.read_bytes()
    saved_bytes = index.read_bytes()
    if damage == "cut":
        index.write_bytes(saved_bytes[:-30])
    elif damage == "other bytes":
        index.write_bytes(saved_bytes.replace(np.arange(15).tobytes(), np.arange(1, 16).tobytes()))
        assert index.read_bytes() != saved_bytes
    elif damage == "missing":
        index.unlink()
    elif damage == "another file":
        saved.path.unlink()
        MarksFile(saved.path).append("done", 50, "9f2c", details={"about": "x" * len(content)})
    elif damage == "shorter file":
        saved.path.write_bytes(content[:200])
    else:
        last = next(line for line in content.split(b"\n") if b" done 14 " in line)
        saved.path.write_bytes(content.replace(last, b"x" * len(last)))
    beside = saved.path.with_name("marks.index.aside")
    found = MarksFile(saved.path).state()
    if index.exists():
        index.rename(beside)
    assert found == MarksFile(saved.path).state()
    assert damage in ("cut", "other bytes", "missing", "other lines") or len(found.done) < 15


def test_the_state_is_saved_after_many_events(marks: MarksFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuroseg.storage.marks._SAVED_AFTER_EVENTS", 10)
    index = marks.path.with_name("marks.index")
    for number in range(25):
        marks.append("begun", number)
    assert not index.exists(), "a small file is read quickly without it"
    monkeypatch.setattr("neuroseg.storage.marks._SAVED_AFTER_BYTES", 1)
    for number in range(25):
        marks.append("begun", number)
    assert index.exists()


def test_a_stage_that_is_forgotten_keeps_no_saved_state(saved: MarksFile) -> None:
    StageLedger(saved.path.parent, {}).forget()
    assert not saved.path.parent.exists()


def test_a_disk_that_cannot_save_the_state_ends_no_run(saved: MarksFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*given: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("neuroseg.storage.marks.write_index", failing)
    saved.save()
    assert 99 in saved.state().done


def test_the_lines_are_flushed_before_their_state_is_saved(saved: MarksFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a crash of the machine removed lines, blocks whose files are not on disk would be done."""
    order: list[str] = []
    monkeypatch.setattr("neuroseg.storage.marks.os.fsync", lambda descriptor: order.append("flushed"))
    monkeypatch.setattr("neuroseg.storage.marks.write_index", lambda *given: order.append("saved"))
    saved.save()
    assert order == ["flushed", "saved"]
