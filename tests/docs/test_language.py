"""Words that make a reader stop do not come back: in pages, in help texts, in messages and in docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from neuroseg.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
BANNED = {
    r"\b(tell|tells|told|telling)\b": "report, describe, name",
    r"\bnor\b": "a sentence of its own",
    r"\b(lest|thereby|wherein|whereof|herein|befalls?|befell)\b": "plain words",
    r"\b(recruits?|visitors?|crew|hired|dismiss(ed|al|als)?|last words|misfortunes?)\b": "the trade's words",
    r"\b(alone|by itself|by themselves|at once|too|as well)[.;:!]": "leave it out, or `only`",
    r"\b(made|given|done|asked) again\b": "recomputed, repeated, retried",
    r"\bsuch (a|an) one\b|\bthat of which\b|\bas much as\b": "a plain noun",
    r"\bwhat (is|are|was|were) what\b": "a plain noun",
}
# Names and commands are not prose; "neither ... nor" is.
_NO_PROSE = re.compile(r"```.*?```|`[^`\n]*`|\bneither\b[^.;]*?\bnor\b", re.DOTALL | re.IGNORECASE)


def sentences_of_pages() -> Iterator[tuple[str, str]]:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        yield page.relative_to(ROOT).as_posix(), _NO_PROSE.sub("", page.read_text())


def helps() -> Iterator[tuple[str, str]]:
    def below(group: object, path: str) -> Iterator[tuple[str, str]]:
        for name, command in group.commands.items():  # type: ignore[attr-defined]
            if hasattr(command, "commands"):
                yield from below(command, f"{path} {name}")
                continue
            yield f"{path} {name}", command.help or ""
            yield from ((f"{path} {name} {each.name}", each.help or "") for each in command.params)

    yield from below(typer.main.get_command(app), "neuroseg")


def texts_of_code() -> Iterator[tuple[str, str]]:
    """Every string in the package: messages, docstrings; comments are code's own."""
    for module in (*(ROOT / "neuroseg").rglob("*.py"), *(ROOT / "workers").rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                yield f"{module.relative_to(ROOT).as_posix()}:{node.lineno}", _NO_PROSE.sub("", node.value)


@pytest.mark.parametrize("texts", [sentences_of_pages, helps, texts_of_code], ids=["pages", "help", "code"])
def test_no_text_has_banned_words(texts: object) -> None:
    found = [
        f"{place}: {match[0]!r}; use {instead}"
        for place, text in texts()  # type: ignore[operator]
        for banned, instead in BANNED.items()
        for match in re.finditer(banned, text, re.IGNORECASE)
    ]
    assert found == []


def test_banned_words_are_found() -> None:
    for banned, example in zip(BANNED, ("as it told", "nor this", "lest", "a crew", "it fails too.", "made again",
                                        "as much as", "what is what"), strict=True):  # fmt: skip
        assert re.search(banned, example), banned
