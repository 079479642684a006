"""The tutorial notebook: its cells run, and its text and stored outputs agree with what they print."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "get-started" / "tutorial.ipynb"
MAX_IMAGE_BYTES = 300_000
# Processors with other units for bfloat16 give other affinities: 71 segments or 73, 0.79 bits or 0.86.
TOLERANCE = 0.15

# The cells are run once, in one process.
pytestmark = pytest.mark.xdist_group("tutorial")

Cell = dict[str, Any]


def cells(kind: str) -> list[Cell]:
    return [cell for cell in json.loads(TUTORIAL.read_text())["cells"] if cell["cell_type"] == kind]


def text_of(cell: Cell) -> str:
    return "".join(cell["source"])


def outputs_of(cell: Cell, kind: str) -> list[Cell]:
    return [output for output in cell["outputs"] if output["output_type"] == kind]


def stored_print(cell: Cell) -> str:
    return "".join("".join(output["text"]) for output in outputs_of(cell, "stream"))


def images() -> list[str]:
    """The stored figures, as base64."""
    return [output["data"]["image/png"] for cell in cells("code") for output in outputs_of(cell, "display_data")]


def numbers_in(text: str) -> list[float]:
    """The numbers in a text, without those in code and in the targets of links."""
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)
    return [float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)", prose)]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Runs every code cell in an empty folder; what each prints, by the cell's id."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names: dict[str, Any] = {}
    prints: dict[str, str] = {}
    pyplot.close("all")
    with contextlib.chdir(tmp_path_factory.mktemp("tutorial")):
        for cell in cells("code"):
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(text_of(cell), f"{TUTORIAL.name}, cell {cell['id']}", "exec"), names)
            prints[cell["id"]] = output.getvalue()
    drawn = len(pyplot.get_fignums())
    pyplot.close("all")
    assert drawn == len(images()) > 0
    return prints


def test_the_text_quotes_numbers_that_come_out(printed: dict[str, str]) -> None:
    stored, found = list[float](), list[float]()
    quoted = 0
    for cell in json.loads(TUTORIAL.read_text())["cells"]:
        source = text_of(cell)
        if cell["cell_type"] == "code":
            stored, found = (numbers_in(source + text) for text in (stored_print(cell), printed[cell["id"]]))
            continue
        for number in numbers_in(source):
            assert number in stored, f"cell {cell['id']} quotes {number}; the notebook shows {stored} before it"
            assert number == pytest.approx(min(found, key=lambda n: abs(n - number)), rel=TOLERANCE), cell["id"]
            quoted += 1
    assert quoted > 5


def test_the_stored_outputs_are_those_of_the_cells(printed: dict[str, str]) -> None:
    for cell in cells("code"):
        stored, found = (re.sub(r"\d+(\.\d+)?", "N", text) for text in (stored_print(cell), printed[cell["id"]]))
        assert stored == found, cell["id"]
        assert stored or outputs_of(cell, "display_data"), f"cell {cell['id']} shows nothing"
        assert {output["output_type"] for output in cell["outputs"]} <= {"stream", "display_data"}, cell["id"]


def test_the_stored_figures_are_small() -> None:
    assert sum(map(len, images())) < MAX_IMAGE_BYTES


def machine_paths(text: str) -> list[str]:
    """The paths in a text that begin at the root of a disk or at a home."""
    return re.findall(r"(?<![\w./<])/\w[^\s'\"]*|~/[^\s'\"]*|\b[A-Z]:\\[^\s'\"]*", text)


def test_the_notebook_names_no_machine_path() -> None:
    notebook = json.loads(TUTORIAL.read_text())
    texts = [text_of(cell) for cell in notebook["cells"]] + [stored_print(cell) for cell in cells("code")]
    metadata = [notebook["metadata"], *(cell["metadata"] for cell in notebook["cells"])]
    assert machine_paths("\n".join([*texts, json.dumps(metadata)])) == []
    assert machine_paths("in /home/me/v.zarr, PosixPath('/tmp/a'), ~/data, C:\\data") == [
        "/home/me/v.zarr,", "/tmp/a", "~/data,", "C:\\data"
    ]  # fmt: skip
    assert machine_paths("../README.md, docs/python.md, https://example.org/a, a / b") == []
