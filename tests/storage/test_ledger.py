"""Done marks carry what made them; another identity is refused by key."""

from pathlib import Path

import pytest

from neuroseg.blocks import Block
from neuroseg.errors import RunRefusedError
from neuroseg.geometry import Box
from neuroseg.storage.ledger import StageLedger

BLOCK = Block(7, ((0, 4), (0, 4), (0, 4)), ((0, 5), (0, 5), (0, 5)))


def ledger(folder: Path, scope: str = "", **identity: object) -> StageLedger:
    return StageLedger(folder / "fragments", identity, scope)


def test_a_marked_block_is_not_pending(tmp_path: Path) -> None:
    made = ledger(tmp_path, reach=16)
    assert made.pending([BLOCK]) == [BLOCK]
    made.mark_done(BLOCK, {"seconds": 1.0})
    assert made.pending([BLOCK]) == []
    assert made.records()[0]["seconds"] == 1.0


@pytest.mark.parametrize("write", [((0, 4), (0, 4), (0, 3)), ((1, 4), (0, 4), (0, 4))])
def test_a_mark_holds_for_its_region_alone(tmp_path: Path, write: Box) -> None:
    made = ledger(tmp_path, reach=16)
    made.mark_done(BLOCK, {})
    assert made.pending([Block(7, write, BLOCK.read_box)])


def test_a_mark_holds_for_its_scope_alone(tmp_path: Path) -> None:
    ledger(tmp_path, scope="0:4", reach=16).mark_done(BLOCK, {})
    assert ledger(tmp_path, scope="0:8", reach=16).pending([BLOCK])


def test_another_identity_is_refused_naming_key_and_values(tmp_path: Path) -> None:
    ledger(tmp_path, reach=16, model="a").claim()
    ledger(tmp_path, reach=16, model="a").require_same("fragments")
    with pytest.raises(RunRefusedError, match=r"reach: 16 -> 24.*--restart fragments"):
        ledger(tmp_path, reach=24, model="a").require_same("fragments")


def test_a_failure_is_forgotten_once_the_block_is_done(tmp_path: Path) -> None:
    made = ledger(tmp_path, reach=16)
    made.mark_failed(BLOCK, "out of memory")
    assert made.failures() == {7: "out of memory"}
    made.mark_done(BLOCK, {})
    assert made.failures() == {}


def test_clearing_removes_marks_of_any_identity(tmp_path: Path) -> None:
    ledger(tmp_path, reach=16).mark_done(BLOCK, {})
    ledger(tmp_path, reach=24).mark_done(BLOCK, {})
    ledger(tmp_path, reach=24).clear([BLOCK])
    assert ledger(tmp_path, reach=16).done() == {}
