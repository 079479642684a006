"""A figure of matplotlib -> SVG to write into a web page, in the page's fonts and colours."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_IDENTIFIERS = re.compile(r'(\bid="|url\(#|href="#)')
_BEFORE_SVG = re.compile(r"^.*?(?=<svg)", re.DOTALL)
# matplotlib's style sheet applies to the whole page.
_DROPPED = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
_OPENING = re.compile(r"<svg[^>]*?viewBox=\"([^\"]*)\"[^>]*>")


def inline_svg(figure: Figure, name: str, alternative: str, colours: Mapping[str, str]) -> str:
    """Return the figure as an `<svg>` element as wide as its container.

    `name` starts all ids, so that two figures on a page do not share any. `alternative` describes the figure. `colours`
    replaces colours of the figure (`#rrggbb`) by those of the page, such as `var(--ink)`. The same figure gives the
    same text.
    """
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    svg = _DROPPED.sub("", _BEFORE_SVG.sub("", file.getvalue(), count=1))
    for before, after in colours.items():
        svg = svg.replace(before, after)
    svg = _IDENTIFIERS.sub(rf"\g<1>{name}-", svg).replace("xlink:href", "href")
    opening = rf'<svg class="chart" viewBox="\1" role="img" aria-label="{escape(alternative)}">'
    return _OPENING.sub(opening, svg, count=1).strip()
