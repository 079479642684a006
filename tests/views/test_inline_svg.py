"""Figures of matplotlib as SVG inside a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from neuroseg.views.curve import curve_figure
from neuroseg.views.inline_svg import inline_svg

ROWS = [
    {"threshold": t / 10, "voi_split": 1 - t / 10, "voi_merge": (t / 10) ** 2, "voi_sum": 1 - t / 10 + (t / 10) ** 2}
    for t in range(1, 10)
]


def drawn(name: str) -> str:
    return inline_svg(curve_figure(ROWS, ROWS[2]), name, 'a "curve"', {"#222222": "var(--ink)"})


def test_the_figure_is_one_element_without_addresses() -> None:
    svg = drawn("curve")
    assert svg.startswith("<svg ")
    assert svg.endswith("</svg>")
    assert "http" not in svg
    assert "<style" not in svg, "it would apply to the whole page"
    assert ElementTree.fromstring(svg).attrib["aria-label"] == 'a "curve"'


def test_two_figures_share_no_id_and_refer_to_their_own() -> None:
    ids = [set(re.findall(r'\bid="([^"]+)"', drawn(name))) for name in ("one", "other")]
    assert all(ids)
    assert not ids[0] & ids[1]
    used = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", drawn("one")))
    assert {first or second for first, second in used} <= ids[0]


def test_colours_are_those_of_the_page_and_the_same_figure_gives_the_same_text() -> None:
    svg = drawn("curve")
    assert "#222222" not in svg
    assert "var(--ink)" in svg
    assert drawn("curve") == svg
