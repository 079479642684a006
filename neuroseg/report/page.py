"""The sections of a run -> the whole HTML page. It contains all pictures, runs no script and loads nothing."""

from __future__ import annotations

import re

from neuroseg.report.markup import escape
from neuroseg.report.style import STYLE

_SECTION = re.compile(r'<section id="([^"]+)"[^>]*>\n<h2[^>]*>([^<]*)</h2>')


def page(title: str, header: str, sections: list[str]) -> str:
    """Return the page with a header, a list of links to its sections, and the sections that are not empty."""
    shown = [section for section in sections if section]
    found = (_SECTION.match(section) for section in shown)
    links = "".join(f'<li><a href="#{match[1]}">{match[2]}</a></li>' for match in found if match)
    body = "\n".join([header, f'<nav aria-label="Sections"><ul>{links}</ul></nav>', "<main>", *shown, "</main>"])
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
