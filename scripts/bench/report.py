"""Rows of results: medians, their ratios, and a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

END_TO_END = "end to end"


@dataclass(frozen=True)
class Row:
    """One measurement. `part` and `what` name it. `values` are numbers by name, with units in the names.

    None: a number that this machine does not have. `error`: why the measurement failed.
    """

    part: str
    what: str
    values: dict[str, float | None] = field(default_factory=dict)
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        return {"part": self.part, "what": self.what, **self.values, **({"error": self.error} if self.error else {})}


def timed(part: str, what: str, seconds: Sequence[float], voxels: int, **more: float) -> Row:
    """Return a row with the median time, its range and the rate."""
    median = statistics.median(seconds)
    return Row(
        part,
        what,
        {
            "seconds": round(median, 3),
            "least_seconds": round(min(seconds), 3),
            "most_seconds": round(max(seconds), 3),
            "mvoxel_per_s": round(voxels / median / 1e6, 3),
            **more,
        },
    )


def with_ratios(rows: Sequence[Row]) -> list[Row]:
    """Return the rows, and the ratio of volara's time to ours, end to end, for each common block size."""
    seconds = {(row.part, row.what): row.values.get("seconds", 0.0) for row in rows}
    ours = {what: value for (part, what), value in seconds.items() if part == "neuroseg" and END_TO_END in what}
    ratios = [
        Row("ratio", f"volara / neuroseg, {what}", {"ratio": round(seconds["volara", what] / value, 2)})
        for what, value in ours.items()
        if ("volara", what) in seconds
    ]
    return [*rows, *ratios]


def print_table(rows: Sequence[Row], file: TextIO | None = None) -> None:
    """Print all rows, one line each, on stdout or into a file."""
    for part in dict.fromkeys(row.part for row in rows):
        print(f"\n{part}", file=file)
        for row in (row for row in rows if row.part == part):
            numbers = "  ".join(f"{name} {value:g}" for name, value in row.values.items() if value is not None)
            print(f"  {row.what:<32} {f'failed: {row.error}' if row.error else numbers}", file=file)
