"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

_LINE_EVERY_S = 10.0
_SHORTEST_RATED_S = 0.5


def begin(stage: str, blocks: int, voxels: int) -> Callable[[int, int], None]:
    """Return a function that shows the progress of a stage, in Mvoxel/s, from (blocks done, blocks failed)."""
    return _bar(stage, blocks, voxels) if sys.stderr.isatty() else _lines(stage, blocks, voxels)


def voxels_done(step: str) -> Callable[[int, int], None]:
    """Return a function that shows the progress of one long step from (voxels done, total voxels)."""
    shown: dict[str, Callable[[int, int], None]] = {}

    def show(done: int, total: int) -> None:
        if step not in shown:
            shown[step] = begin(step, total, total)
        shown[step](done, 0)

    return show


# Bars of stages that run at the same time, in order. They close together: tqdm garbles the others if one closes.
_open_bars: list[tqdm[Any]] = []


def _bar(stage: str, blocks: int, voxels: int) -> Callable[[int, int], None]:
    total = voxels / 1e6
    bar = tqdm(
        total=total,
        desc=f"{stage:>14}",
        unit="Mvoxel",
        bar_format="{desc} {percentage:3.0f}%|{bar}| {rate_fmt} [{elapsed}<{remaining}]{postfix}",
        file=sys.stderr,
        mininterval=0.3,
        position=len(_open_bars),
    )
    _open_bars.append(bar)

    def observe(done: int, failed: int) -> None:
        if bar.disable:
            return
        bar.n = min(total, total * done / max(1, blocks))
        if failed:
            bar.set_postfix_str(f" {failed} failed", refresh=False)
        bar.refresh()
        bar.leave = done + failed >= blocks
        if all(other.leave for other in _open_bars):
            for other in _open_bars:
                other.close()
            _open_bars.clear()

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
        failures = f", {failed} failed" if failed else ""
        # A step of less than half a second has no meaningful rate.
        speed = f" {rate:.2f} Mvoxel/s" if elapsed > _SHORTEST_RATED_S else ""
        line = f"{stage:>14} {100 * done / blocks:3.0f}%{speed}{left}{failures}"
        print(line, file=sys.stderr, flush=True)

    return observe
