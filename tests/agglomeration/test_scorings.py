"""The text of a scoring: what is accepted, and that everything else is refused with what is valid."""

from __future__ import annotations

import pytest

from neuroseg.agglomeration.scorings import MEAN, Scoring, parse_scoring
from neuroseg.errors import InputError


@pytest.mark.parametrize(
    ("text", "scoring"),
    [
        ("mean", Scoring(MEAN)),
        ("quantile:50", Scoring(50)),
        ("quantile:50:max", Scoring(50)),
        ("quantile:25:all", Scoring(25, every_contact=True)),
        ("quantile:1", Scoring(1)),
        ("quantile:99:all", Scoring(99, every_contact=True)),
    ],
)
def test_valid_scorings_parse(text: str, scoring: Scoring) -> None:
    assert parse_scoring(text) == scoring


def test_a_scorings_text_parses_back() -> None:
    quantiles = [Scoring(percent, every_contact) for percent in range(1, 100) for every_contact in (False, True)]
    for scoring in [Scoring(MEAN), *quantiles]:
        assert parse_scoring(str(scoring)) == scoring


@pytest.mark.parametrize(
    "text",
    [
        "", "Mean", "mean:50", "median", "max", "quantile", "quantile:", "quantile:0", "quantile:100", "quantile:-5",
        "quantile:50.5", "quantile:50:min", "quantile:50:", "quantile:50:all:max", "quantile:50:ALL", " mean",
        "quantile:050", "mean\n", "quantile:50\n",
    ],
)  # fmt: skip
def test_other_scorings_are_refused_with_what_was_found_and_what_is_valid(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_scoring(text)
    assert repr(text) in str(caught.value)
    assert "mean, quantile:Q, quantile:Q:all" in str(caught.value)


@pytest.mark.parametrize("text", ["median", "max", "min", "topk:10"])
def test_a_scoring_that_is_not_reducible_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(InputError, match=f"{text}.*not reducible.*depend on the order of merges"):
        parse_scoring(text)
