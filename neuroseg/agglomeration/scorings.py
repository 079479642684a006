"""Scorings: the score of an edge, computed from its statistics.

Only *reducible* scorings are available: merging two regions never gives an edge with a better score than both edges
that it replaces. So any valid order of merges gives the same tree, with ascending scores.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from neuroseg.errors import InputError

MEAN = -1
_SUGGESTED = ("mean", "quantile:50", "quantile:50:all")


@dataclass(frozen=True)
class Scoring:
    """A scoring of waterz. `percent`: MEAN for OneMinus<MeanAffinity>, otherwise the quantile Q (0 < Q < 100).

    `every_contact`: the histogram of an edge contains the affinities of all contacts (`init: all`). Otherwise each pair
    of fragments contributes one value, its largest affinity (`init: max`, the default of waterz).
    """

    percent: int
    every_contact: bool = False

    def __str__(self) -> str:
        if self.percent == MEAN:
            return "mean"
        return f"quantile:{self.percent}" + (":all" if self.every_contact else "")


def parse_scoring(text: str) -> Scoring:
    """Return the scoring `mean`, `quantile:Q`, `quantile:Q:max` or `quantile:Q:all`; or raise InputError."""
    if text == "mean":
        return Scoring(MEAN)
    match = re.fullmatch(r"quantile:(\d{1,2})(?::(max|all))?", text)
    if match is None or not 0 < int(match[1]) < 100:
        close = difflib.get_close_matches(text, _SUGGESTED, n=1, cutoff=0.5)
        raise InputError(
            f"unknown scoring {text!r} (valid: mean, quantile:Q, quantile:Q:all with a whole number Q from 1 to 99); "
            "other statistics are not reducible: the result would depend on the order of merges",
            hint=f"did you mean {close[0]}?" if close else "",
        )
    return Scoring(int(match[1]), match[2] == "all")
