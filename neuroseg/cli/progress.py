"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

_LINE_EVERY_S = 10.0
_LEAST_TIMED_S = 0.5


def begin(stage: str, blocks: int, voxels: int) -> Callable[[int, int], None]:
    """Return the function that shows (blocks done, blocks failed) of a stage in Mvoxel/s with the time left."""
    return _bar(stage, blocks, voxels) if sys.stderr.isatty() else _lines(stage, blocks, voxels)


def voxels_done(what: str) -> Callable[[int, int], None]:
    """Return the function that shows (voxels done, voxels in all) of one long step."""
    shown: dict[str, Callable[[int, int], None]] = {}

    def show(done: int, total: int) -> None:
        if what not in shown:
            shown[what] = begin(what, total, total)
        shown[what](done, 0)

    return show


# Bars of stages that run at the same time, in their order. tqdm garbles those that are closed while others go on.
_together: list[tqdm[Any]] = []


def _bar(stage: str, blocks: int, voxels: int) -> Callable[[int, int], None]:
    total = voxels / 1e6
    bar = tqdm(
        total=total,
        desc=f"{stage:>14}",
        unit="Mvoxel",
        bar_format="{desc} {percentage:3.0f}%|{bar}| {rate_fmt} [{elapsed}<{remaining}]{postfix}",
        file=sys.stderr,
        mininterval=0.3,
        position=len(_together),
    )
    _together.append(bar)

    def observe(done: int, failed: int) -> None:
        if bar.disable:
            return
        bar.n = min(total, total * done / max(1, blocks))
        if failed:
            bar.set_postfix_str(f" {failed} failed", refresh=False)
        bar.refresh()
        bar.leave = done + failed >= blocks
        if all(other.leave for other in _together):
            for other in _together:
                other.close()
            _together.clear()

    bar.leave = False
    return observe


def _lines(stage: str, blocks: int, voxels: int) -> Callable[[int, int], None]:
    started = time.monotonic()
    last = [started]
    finished = [False]

    def observe(done: int, failed: int) -> None:
        now = time.monotonic()
        complete = done + failed >= blocks
        if finished[0] or (not complete and now - last[0] < _LINE_EVERY_S):
            return
        last[0], finished[0] = now, complete
        elapsed = max(now - started, 1e-9)
        rate = voxels * done / blocks / elapsed / 1e6
        left = f", {elapsed * (blocks - done) / done:.0f} s left" if 0 < done < blocks else ""
        trouble = f", {failed} failed" if failed else ""
        # What took no time has no rate worth showing.
        speed = f" {rate:.2f} Mvoxel/s" if elapsed > _LEAST_TIMED_S else ""
        line = f"{stage:>14} {100 * done / blocks:3.0f}%{speed}{left}{trouble}"
        print(line, file=sys.stderr, flush=True)

    return observe
