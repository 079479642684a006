"""Draws the mermaid flowcharts of pages (`flowchart TB`, lines `a --> b`) as SVG when mkdocs builds the site.

The theme would fetch mermaid from a server, and no request may leave the site.

arrows -> layers (each node one below the lowest that points to it) -> order within layers -> boxes and curves
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

import mkdocs_gen_files

DOCS = Path(__file__).parent

_WIDTH, _HEIGHT, _ACROSS, _DOWN = 118, 30, 134, 68
_SWEEPS = 8
_BLOCK = re.compile(r"```mermaid\nflowchart TB\n(.*?)```", re.DOTALL)

Arrows = list[tuple[str, str]]
Layers = list[list[str]]


def main() -> None:
    """Write the pages that have a flowchart into the site."""
    for page in DOCS.rglob("*.md"):
        if "```mermaid" in (text := page.read_text()):
            with mkdocs_gen_files.open(page.relative_to(DOCS).as_posix(), "w") as out:
                out.write(with_diagrams(text))


def with_diagrams(page: str) -> str:
    """Return a page with its flowcharts as inline SVG, in the colour of its text."""
    return _BLOCK.sub(lambda found: f'<div class="diagram">{_svg(_arrows(found[1]))}</div>', page)


def _arrows(text: str) -> Arrows:
    pairs = [line.split(" --> ") for line in map(str.strip, text.splitlines()) if line]
    return [(above, below) for above, below in pairs]


def _svg(arrows: Arrows) -> str:
    layers = _ordered(_layered(arrows), arrows)
    width = max(map(len, layers)) * _ACROSS
    places = {
        node: (round((width - len(layer) * _ACROSS) / 2 + column * _ACROSS + _ACROSS / 2), row * _DOWN + _HEIGHT)
        for row, layer in enumerate(layers)
        for column, node in enumerate(layer)
    }
    height = len(layers) * _DOWN
    parts = [_curve(places[above], places[below]) for above, below in arrows]
    parts += [_box(node, *place) for node, place in places.items()]
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Arrows: {_in_words(arrows)}">'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="currentColor"/></marker></defs>{"".join(parts)}</svg>'
    )


def _layered(arrows: Arrows) -> Layers:
    """Return the nodes in layers: each lies below all that point to it."""
    depth = {node: 0 for pair in arrows for node in pair}
    for _ in depth:
        for above, below in arrows:
            depth[below] = max(depth[below], depth[above] + 1)
    return [[node for node in depth if depth[node] == row] for row in range(max(depth.values()) + 1)]


def _ordered(layers: Layers, arrows: Arrows) -> Layers:
    """Return the layers, each ordered by the mean place of its neighbours, so that few arrows cross."""
    for _ in range(_SWEEPS):
        place = {node: column / len(layer) for layer in layers for column, node in enumerate(layer)}

        def neighbours(node: str, place: dict[str, float] = place) -> float:
            beside = [place[a if b == node else b] for a, b in arrows if node in (a, b)]
            return sum(beside) / len(beside)

        layers = [sorted(layer, key=neighbours) for layer in layers]
    return layers


def _curve(above: tuple[int, int], below: tuple[int, int]) -> str:
    (x0, y0), (x1, y1) = above, below
    y0, y1 = y0 + _HEIGHT // 2, y1 - _HEIGHT // 2 - 2
    bend = _DOWN // 2
    return (
        f'<path d="M{x0} {y0}C{x0} {y0 + bend} {x1} {y1 - bend} {x1} {y1}" fill="none" stroke="currentColor" '
        'stroke-opacity="0.45" marker-end="url(#head)"/>'
    )


def _box(node: str, x: int, y: int) -> str:
    return (
        f'<rect x="{x - _WIDTH // 2}" y="{y - _HEIGHT // 2}" width="{_WIDTH}" height="{_HEIGHT}" rx="4" class="node"/>'
        f'<text x="{x}" y="{y + 5}" text-anchor="middle" fill="currentColor">{escape(node)}</text>'
    )


def _in_words(arrows: Arrows) -> str:
    return escape("; ".join(f"{above} imports {below}" for above, below in arrows))


main()
