"""Done marks contain a hash of the settings. If the settings differ, the error names what changed."""

from pathlib import Path

import pytest

from neuroseg.blocks import Block
from neuroseg.errors import RunRefusedError
from neuroseg.geometry import Box
from neuroseg.storage.identity_errors import NOT_COMPARABLE
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
def test_a_mark_is_valid_only_for_its_region(tmp_path: Path, write: Box) -> None:
    made = ledger(tmp_path, reach=16)
    made.mark_done(BLOCK, {})
    assert made.pending([Block(7, write, BLOCK.read_box)])


def test_a_mark_is_valid_only_for_its_scope(tmp_path: Path) -> None:
    ledger(tmp_path, scope="0:4", reach=16).mark_done(BLOCK, {})
    assert ledger(tmp_path, scope="0:8", reach=16).pending([BLOCK])


def test_another_identity_is_refused_naming_key_and_values(tmp_path: Path) -> None:
    ledger(tmp_path, reach=16, model="a").claim()
    ledger(tmp_path, reach=16, model="a").require_same("fragments")
    with pytest.raises(RunRefusedError, match=r"with other settings: reach: 16 -> 24") as raised:
        ledger(tmp_path, reach=24, model="a").require_same("fragments")
    assert raised.value.hint.startswith("to keep them, use the earlier settings; ")
    assert "use --restart fragments" in raised.value.hint


def test_a_changed_input_is_refused_with_its_own_hint(tmp_path: Path) -> None:
    """Also if settings that follow from the input, such as the block shape, differ."""
    ledger(tmp_path, block=64, input="v2:1").claim()
    changes = {"input": "the volume V.zarr has changed since this run: its values differ"}
    with pytest.raises(RunRefusedError, match=r"from another input: block: 64 -> 32; the volume V.zarr") as raised:
        ledger(tmp_path, block=32, input="v2:2").require_same("fragments", changes)
    assert raised.value.hint.startswith("to keep them, restore or name the earlier input; ")
    assert "settings" not in str(raised.value)


def test_an_input_that_cannot_be_compared_cannot_be_restored(tmp_path: Path) -> None:
    ledger(tmp_path, input="v1:1").claim()
    changes = {"input": f"the volume V.zarr {NOT_COMPARABLE}"}
    with pytest.raises(RunRefusedError) as raised:
        ledger(tmp_path, input="v2:2").require_same("fragments", changes)
    assert raised.value.hint.startswith("to recompute this and all later stages, use --restart fragments; ")


def test_a_done_mark_removes_the_failure(tmp_path: Path) -> None:
    made = ledger(tmp_path, reach=16)
    made.mark_failed(BLOCK, "out of memory")
    assert made.failures() == {7: "out of memory"}
    made.mark_done(BLOCK, {})
    assert made.failures() == {}


def test_clearing_removes_marks_of_any_identity(tmp_path: Path) -> None:
    ledger(tmp_path, reach=16).mark_done(BLOCK, {})
    ledger(tmp_path, reach=24).mark_done(BLOCK, {})
    ledger(tmp_path, reach=24).clear([BLOCK])
    assert ledger(tmp_path, reach=16).done() == set()
