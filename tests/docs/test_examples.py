"""The examples of README and of the pages that a user follows run, page by page, and print what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    path
    for path in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("get-started/*.md")),
        *sorted((ROOT / "docs").glob("how-to/*.md")),
    )
    if path.name != "index.md" or path.parent.name == "get-started"
]
LANGUAGES = ("bash", "console", "python")
# A mark, or a fenced block with the mark that stands right above it, if any.
_PART = re.compile(
    r"<!-- (?P<kind>run|no run)(?:: (?P<text>.*?))? -->\n?(?P<above>```)?|^```(?P<bare>\w+)", re.MULTILINE | re.DOTALL
)
_BLOCK = re.compile(r"(?P<language>\w+)[^\n]*\n(?P<content>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A block of a page that is executed, or a hidden command (`shell`)."""

    language: str
    content: str


def examples(page: str) -> list[Example]:
    """Return what is executed of a page, in order; fails for a block of commands without a mark."""
    found, place = list[Example](), 0
    while part := _PART.search(page, place):
        place = part.end()
        if part["bare"]:
            assert part["bare"] not in LANGUAGES, f"no mark above a block: {page[part.start() : part.start() + 80]!r}"
            block = _BLOCK.match(page, part.start() + len("```"))
        elif part["above"]:
            block = _BLOCK.match(page, place)
            assert block is not None
            if part["kind"] == "run":
                found.append(Example(block["language"], block["content"]))
            else:
                assert part["text"], "a block that does not run needs a reason"
        else:
            assert part["kind"] == "run"
            assert part["text"], "a mark without a block or a command"
            found.append(Example("shell", part["text"]))
            continue
        assert block is not None
        place = block.end()
    return found


def execute(example: Example, folder: Path) -> None:
    """Execute an example in a folder; fails where it fails, or prints other things than shown."""
    if example.language == "python":
        _run([sys.executable, "-c", example.content], folder)
    elif example.language != "console":
        _run(["bash", "-ec", example.content], folder)
    else:
        for entry in ("\n" + example.content).split("\n$ ")[1:]:
            lines = entry.splitlines()
            count = next(number for number, line in enumerate(lines, 1) if not line.endswith("\\"))
            printed, shown = _run(["bash", "-ec", "\n".join(lines[:count])], folder), "\n".join(lines[count:])
            assert _pattern(shown).search(_plain(printed)), f"{entry}\nprinted:\n{printed}"


def _run(command: list[str], folder: Path) -> str:
    """Run a command; returns what it printed, messages first."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    printed = f"{ran.stderr}\n{ran.stdout}"
    assert ran.returncode == 0, f"{command[-1]}\n{printed}"
    return printed


def _plain(text: str) -> str:
    """Return a text without what differs between machines: numbers are 0, `% less` is `% more`, spaces are single."""
    numbers_alike = re.sub(r"\d+([.,]\d+)*", "0", text)
    return re.sub(r"\s+", " ", numbers_alike.replace("% less", "% more")).strip()


def _pattern(shown: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part.strip()) for part in _plain(shown).split("...")))


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem if path.stem != "index" else path.parent.name)
def test_the_examples_run(page: Path, tmp_path: Path) -> None:
    script: list[str] = []
    for example in examples(page.read_text()):
        if example.language == "python":
            script.append(example.content)  # the blocks of a page are one script
            continue
        execute(example, tmp_path)
    if script:
        execute(Example("python", "\n".join(script)), tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem if path.stem != "index" else path.parent.name)
def test_every_block_of_commands_is_marked(page: Path) -> None:
    examples(page.read_text())


def test_a_block_without_a_mark_is_found() -> None:
    with pytest.raises(AssertionError, match="no mark above a block"):
        examples("text\n\n```bash\nneuroseg demo\n```\n")
    with pytest.raises(AssertionError, match="needs a reason"):
        examples("<!-- no run -->\n```bash\nneuroseg demo\n```\n")


def test_the_parts_of_a_page() -> None:
    page = "<!-- run: touch a -->\n\n<!-- run -->\n```console\n$ ls\na\n```\n\n```yaml\nb: 1\n```\n"
    assert examples(page) == [Example("shell", "touch a"), Example("console", "$ ls\na\n")]


def test_an_example_that_prints_something_else_fails(tmp_path: Path) -> None:
    execute(Example("console", "$ echo 3 segments in a.zarr\n5 segments...zarr\n"), tmp_path)
    with pytest.raises(AssertionError, match="printed:"):
        execute(Example("console", "$ echo 3 segments\n3 fragments\n"), tmp_path)
    with pytest.raises(AssertionError, match="false"):
        execute(Example("bash", "false\ntrue"), tmp_path)
