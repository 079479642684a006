"""The site is built strictly, leads nowhere that does not exist, and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What a browser fetches by itself: scripts, styles, fonts, images. Links that a reader follows may lead elsewhere.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)=[\"']?(https?://[^\"'\s>]+)[^>]*>", re.IGNORECASE
)
_NOT_FETCHED = ("rel=canonical", 'rel="canonical"', "rel=me", "rel=edit")
_QUIET = {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}

pytestmark = pytest.mark.xdist_group("site")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; the build fails for a link or an anchor that is not there."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, env={**os.environ, **_QUIET}, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    return folder


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    loaded = {
        (page.name, found[1])
        for page in pages
        for found in _LOADED.finditer(page.read_text())
        if not any(rel in found[0] for rel in _NOT_FETCHED)
    }
    assert loaded == set()
    assert _LOADED.search('<script src="https://unpkg.com/mermaid.js"></script>')
    styles = "".join(style.read_text() for style in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?https?://[^)]*\)|@import[^;]*https?:", styles) == []


def test_the_generated_pages_are_filled(site: Path) -> None:
    commands = (site / "reference" / "command-line" / "index.html").read_text()
    assert all(
        f">neuroseg {name}" in commands
        for name in ("run", "segment", "train", "models convert", "models tune", "cluster check")
    )
    assert "--blocks" in commands
    keys = (site / "reference" / "configuration" / "index.html").read_text()
    assert all(f"<code>{key}</code>" in keys for key in ("threshold", "partition", "teacher", "learning_rate"))
    functions = (site / "reference" / "python" / "index.html").read_text()
    assert all(name in functions for name in ("neuroseg.api.run", "demo_volume", "voxel_size"))
    assert "{{" not in commands + keys + functions
    assert (site / "get-started" / "tutorial" / "index.html").read_text().count("<img") >= 2
    assert "<svg viewBox" in (site / "internals" / "architecture" / "index.html").read_text()


def test_every_key_of_a_configuration_is_described(site: Path) -> None:
    keys = (site / "reference" / "configuration" / "index.html").read_text()
    rows = re.findall(r"<tr>\s*<td><code>(\w+)</code></td>(.*?)</tr>", keys, re.DOTALL)
    bare = [
        name for name, rest in rows if not re.sub(r"<[^>]+>", "", rest.rsplit("<td", 1)[1].partition(">")[2]).strip()
    ]
    assert len(rows) > 100
    assert bare == []
