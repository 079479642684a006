"""The parts of the benchmark, one after the other, within a common time limit."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpu_machine import free_memory
from report import Row
from subjects import Bench

_LEAST_SECONDS = 2.0

Measure = Callable[[Bench, float, Sequence[Row]], list[Row]]
"""measure(bench, seconds, rows) returns the rows of a part that may take `seconds`. `rows`: those of earlier parts."""


@dataclass(frozen=True)
class Arm:
    """A part. `weight`: its share of the time, compared with the other parts."""

    part: str
    what: str
    weight: float
    measure: Measure


def run_arms(
    arms: Sequence[Arm],
    bench: Bench,
    deadline: float,
    observe: Callable[[list[Row]], object],
    clock: Callable[[], float] = time.monotonic,
) -> list[Row]:
    """Return the rows of all parts. A part that fails has one row with its error.

    A part may use its share of the time that is left until `deadline`, so time that one leaves is for the next ones.
    `observe` is called with all rows after each part.
    """
    rows: list[Row] = []
    for number, arm in enumerate(arms):
        print(f"measuring {arm.part}: {arm.what}", file=sys.stderr, flush=True)
        left = deadline - clock()
        seconds = left * arm.weight / sum(each.weight for each in arms[number:])
        try:
            if seconds < _LEAST_SECONDS:
                raise TimeoutError(f"only {max(0.0, left):.0f} s of the time limit are left")
            rows += arm.measure(bench, seconds, list(rows))
        except Exception as error:
            traceback.print_exc()
            rows.append(Row(arm.part, arm.what, error=f"{type(error).__name__}: {error}"))
        free_memory(bench.device)
        observe(rows)
    return rows
