"""The user's choice of axes, channel, time point and image in a file that contains more than one volume."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Selection:
    """Options that override the file's own description. None: use the file's; if it leaves a choice, raise an error.

    `axes` names the stored dimensions, slowest first, one letter each of t, c, z, y, x, such as `xyz` or `zcyx`.
    `channel`, `time` and `series` count from 0.
    """

    axes: str | None = None
    channel: int | None = None
    time: int | None = None
    series: int | None = None


WHOLE_FILE = Selection()
