"""Fills the pages of the site that the code itself describes, when mkdocs builds it (mkdocs-gen-files).

reference/command-line.md     {{ commands }}       <-  the typer commands and the help of each option
reference/configuration.md    {{ keys: CLASS }}    <-  the fields of a pydantic model, with their docstrings
get-started/tutorial.md                            <-  the cells and stored outputs of tutorial.ipynb
"""

from __future__ import annotations

import base64
import importlib
import json
import re
import types
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import mkdocs_gen_files
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from neuroseg.cli.main import app
from neuroseg.runs.options import Options

DOCS = Path(__file__).parent

_PLACE = re.compile(r"^\{\{ (commands|keys: ([\w.]+)) \}\}$", re.MULTILINE)


def main() -> None:
    """Write the generated pages into the site."""
    for page in ("reference/command-line.md", "reference/configuration.md"):
        with mkdocs_gen_files.open(page, "w") as out:
            out.write(_PLACE.sub(_filled, (DOCS / page).read_text()))
    _write_tutorial("get-started/tutorial.ipynb")


def _filled(found: re.Match[str]) -> str:
    if found[1] == "commands":
        return "\n".join(_commands(typer.main.get_command(app), "neuroseg"))
    module, _, name = found[2].rpartition(".")
    return "\n".join(_keys(getattr(importlib.import_module(module), name)))


def _commands(group: Any, path: str) -> Iterator[str]:
    """Yield the lines of every command below a group."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield from _command(command, f"{path} {name}")


def _command(command: Any, path: str) -> Iterator[str]:
    context = command.make_context(path, [], resilient_parsing=True)
    yield f"## {path}\n"
    yield from _help_text(command.help or "")
    usage = " ".join(command.collect_usage_pieces(context))
    yield f'```text title="Usage"\n{path} {usage}\n```\n'
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.params:
        if record := parameter.get_help_record(context):
            panel = getattr(parameter, "rich_help_panel", None)
            is_argument = not str(parameter.opts[0]).startswith("-")
            panels.setdefault(panel or ("Arguments" if is_argument else "Options"), []).append(record)
    for panel, records in panels.items():
        yield f"| {panel} | |\n|---|---|"
        for declared, text in records:
            yield f"| <code>{escape(declared).replace('|', '&#124;')}</code> | {_cell(escape(text))} |"
        yield ""


def _help_text(text: str) -> Iterator[str]:
    r"""Yield the paragraphs of a help text; those that are not to be wrapped (\b) are code."""
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("\b"):
            title, _, rest = paragraph.removeprefix("\b\n").partition(":")
            lines = [line.strip() for line in rest.strip().splitlines()]
            yield f'```bash title="{title.strip()}"\n' + "\n".join(lines) + "\n```\n"
        else:
            yield paragraph.replace("\n", " ") + "\n"


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield a table of a section's keys, then one for each section within it."""
    within: list[tuple[str, type[BaseModel]]] = []
    yield "| key | value | default | |\n|---|---|---|---|"
    for name, field in model.model_fields.items():
        inner = _section_in(field.annotation)
        if inner is not None:
            within.append((f"{prefix}{name}", inner))
        described = _cell(field.description or (_option_help(name) if model is Options else ""))
        link = f" Keys: [{prefix}{name}](#{_anchor(prefix + name)})." if inner is not None else ""
        yield f"| `{name}` | {_cell(_type_name(field.annotation))} | {_default(field)} | {described}{link} |"
    yield ""
    for name, section in within:
        yield f"### {name} {{ #{_anchor(name)} }}\n"
        yield from _keys(section, f"{name}.")


def _option_help(name: str) -> str:
    """Return the help of the option that has a key's name, as the commands print it."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = [each.help for command in ("run", "segment") for each in commands[command].params if each.name == name]
    return str(found[0])


def _anchor(name: str) -> str:
    return name.replace(".", "-").replace("_", "-")


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _section_in(each))), None)


def _type_name(annotation: Any) -> str:
    """Return what may stand as a key's value, as a reader of YAML calls it."""
    origin, inside = get_origin(annotation), [each for each in get_args(annotation) if each is not type(None)]
    plain = {str: "text", int: "whole number", float: "number", bool: "true, false", Path: "path"}
    if annotation in plain:
        return plain[annotation]
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_type_name, inside)))
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in inside)
    if origin in (tuple, list):
        named = [_type_name(each) for each in inside if each is not Ellipsis]
        return f"list of {named[0]}" if len(named) == 1 else f"[{', '.join(named)}]"
    if origin is not None and issubclass(origin, dict):
        return "mapping"
    return "section" if _section_in(annotation) else _type_name(inside[0]) if inside else str(annotation)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "" if field.default_factory else "required"
    if field.default is None or isinstance(field.default, BaseModel):
        return ""
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{_cell(json.dumps(value))}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _write_tutorial(path: str) -> None:
    """Write a notebook as a page, its figures beside it."""
    cells = json.loads((DOCS / path).read_text())["cells"]
    lines: list[str] = []
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        lines.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            if output["output_type"] == "stream":
                lines.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
            elif image := output.get("data", {}).get("image/png"):
                name = f"tutorial-{number}.png"
                with mkdocs_gen_files.open(f"get-started/{name}", "wb") as out:
                    out.write(base64.b64decode("".join(image)))
                lines.append(f"![Figure drawn by the cell above]({name})")
    with mkdocs_gen_files.open(path.replace(".ipynb", ".md"), "w") as out:
        out.write("\n\n".join([*lines, "[Download this notebook](tutorial.ipynb){ .md-button download }"]) + "\n")


main()
