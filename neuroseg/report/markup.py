"""Texts, numbers and pictures -> pieces of HTML. Every text is escaped here or by the function that calls."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Sequence
from html import escape as escape


def section(name: str, title: str, *parts: str) -> str:
    """Return a section with the anchor `name` and a heading."""
    content = "\n".join(filter(None, parts))
    return f'<section id="{name}" aria-labelledby="{name}-title">\n<h2 id="{name}-title">{escape(title)}</h2>\n' + (
        f"{content}\n</section>"
    )


def heading(title: str) -> str:
    """Return a heading below that of a section."""
    return f"<h3>{escape(title)}</h3>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph. `kind` is a class of the style sheet, such as `note` or `warning`."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def command(*words: str) -> str:
    """Return a command of words, quoted for a shell."""
    return f"<pre><code>{escape(shlex.join(words))}</code></pre>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """Return a table of texts. The first `words` columns are left-aligned words, the others are numbers."""
    kinds = ["" if column < words else "number" for column in range(len(head))]
    names = zip(head, kinds, strict=True)
    top = "".join(f'<th scope="col"{_class(kind)}>{escape(name)}</th>' for name, kind in names)
    lines = "\n".join(f"<tr>{_cells(row, kinds)}</tr>" for row in rows)
    return f'<div class="wide"><table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a list of names and values."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="facts">{items}</dl>'


def picture(content: bytes, alternative: str, size: tuple[float, float], kind: str = "") -> str:
    """Return a WebP image inside the page. `size` is its width and height in any unit: only their ratio matters."""
    data = base64.b64encode(content).decode()
    style = f"aspect-ratio:{size[0]:.4g}/{size[1]:.4g}"
    return f'<img{_class(kind)} src="data:image/webp;base64,{data}" alt="{escape(alternative)}" style="{style}">'


def figure(content: str, caption: str, kind: str = "") -> str:
    """Return a figure with a caption, which is not cut when printed."""
    return f"<figure{_class(kind)}>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def group(kind: str, parts: Iterable[str], style: str = "") -> str:
    """Return parts in a box of the class `kind`."""
    return f'<div class="{kind}"{f" style={chr(34)}{style}{chr(34)}" if style else ""}>' + "\n".join(parts) + "</div>"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 block, 2,000 blocks."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """Return a share from 0 to 1 in percent with three significant digits. A dash for NaN."""
    if share != share:
        return "–"
    return f"{100 * share:.3g} %" if share < 0.9995 else "100 %"


def length_text(nanometres: float) -> str:
    """Return a length with three significant digits, in nm or µm."""
    return f"{nanometres / 1000:.3g} µm" if nanometres >= 1000 else f"{nanometres:.3g} nm"


def seconds_text(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _cells(row: Sequence[str], kinds: Sequence[str]) -> str:
    others = zip(row[1:], kinds[1:], strict=True)
    cells = "".join(f"<td{_class(kind)}>{escape(text)}</td>" for text, kind in others)
    return f'<th scope="row">{escape(row[0])}</th>{cells}'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
