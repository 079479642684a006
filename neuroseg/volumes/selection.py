"""What a user selects of a file that holds more than one volume, and says of axes that the file does not name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Selection:
    """Options that win over the file's own description; None: as the file says, refused where it leaves a choice.

    `axes` names the stored dimensions, slowest first, one letter each of t, c, z, y, x (`xyz`, `zcyx`). `channel`,
    `time` and `series` count from 0.
    """

    axes: str | None = None
    channel: int | None = None
    time: int | None = None
    series: int | None = None


WHOLE_FILE = Selection()
