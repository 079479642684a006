"""The scorings: how the statistics of an edge become the score by which regions merge.

Only *reducible* scorings are declared here: merging two regions never gives an edge better than both of its parents,
so that merging in any valid order gives one tree whose scores never decrease.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from neuroseg.errors import InputError

MEAN = -1
_WELL_KNOWN = ("mean", "quantile:50", "quantile:50:all")


@dataclass(frozen=True)
class Scoring:
    """A scoring after waterz: `percent` is MEAN for OneMinus<MeanAffinity>, else the quantile Q (0 < Q < 100).

    `every_contact`: the histogram holds every contact's affinity (`init: all`); otherwise each pair of fragments
    enters with one value, its largest affinity (`init: max`, waterz' default).
    """

    percent: int
    every_contact: bool = False

    def __str__(self) -> str:
        if self.percent == MEAN:
            return "mean"
        return f"quantile:{self.percent}" + (":all" if self.every_contact else "")


def parse_scoring(text: str) -> Scoring:
    """Return the scoring `mean`, `quantile:Q`, `quantile:Q:max` or `quantile:Q:all`; raises InputError otherwise."""
    if text == "mean":
        return Scoring(MEAN)
    match = re.fullmatch(r"quantile:(\d{1,2})(?::(max|all))?", text)
    if match is None or not 0 < int(match[1]) < 100:
        close = difflib.get_close_matches(text, _WELL_KNOWN, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(
            f"unknown scoring {text!r}{hint} (valid: mean, quantile:Q, quantile:Q:all with a whole Q from 1 to 99; "
            "other statistics are not reducible and would make the result depend on the order of merges)"
        )
    return Scoring(int(match[1]), match[2] == "all")
