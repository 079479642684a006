"""`--help`: options under headings, examples, and whole first sentences in the list of commands."""

from __future__ import annotations

import pytest
import typer

from neuroseg.cli.main import app, exit_code

ROOT = typer.main.get_command(app)
COMMANDS = [*ROOT.commands, "models show", "models convert", "models tune", "cluster check"]  # type: ignore[attr-defined]


def shown(command: str, capfd: pytest.CaptureFixture[str]) -> str:
    """The help of a command."""
    capfd.readouterr()
    assert exit_code([*command.split(), "--help"]) == 0
    return capfd.readouterr().out


def headings(text: str) -> list[str]:
    """The lines that begin a section."""
    return [line[:-1] for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]


def test_options_stand_under_headings_in_their_order(capfd: pytest.CaptureFixture[str]) -> None:
    text = shown("run", capfd)
    assert headings(text) == [
        "Arguments", "Input", "Prediction", "Segmentation", "Output", "Workers and clusters", "General",
    ]  # fmt: skip
    assert text.index("  --roi") < text.index("Prediction:") < text.index("  --model")
    assert text.index("Segmentation:") < text.index("  --threshold") < text.index("  -o, --output")


def test_few_options_need_one_heading(capfd: pytest.CaptureFixture[str]) -> None:
    assert headings(shown("check", capfd)) == ["Arguments", "Options"]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_is_listed_once(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    command = ROOT
    for part in name.split():
        command = command.commands[part]  # type: ignore[attr-defined]
    rows = shown(name, capfd).splitlines()
    for parameter in command.params:
        if parameter.param_type_name == "option":
            names = ", ".join(parameter.opts)
            assert sum(row.startswith((f"  {names} ", f"  {names}\n")) for row in rows) == 1, names


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "cluster"])
def test_each_command_shows_examples_that_call_it(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    lines = shown(name, capfd).splitlines()
    first = next(number for number, line in enumerate(lines) if line in ("  Example:", "  Examples:"))
    assert lines[first + 1].startswith(f"    neuroseg {name}")


def test_the_list_of_commands_shows_whole_sentences(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = shown("", capfd)
    listed = text[text.index("Commands:") :].split("\n\n")[0].splitlines()[1:]
    assert [line.split()[0] for line in listed] == list(ROOT.commands)  # type: ignore[attr-defined]
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)
