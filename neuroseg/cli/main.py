"""The command `neuroseg`: its subcommands, and how every error ends."""

from __future__ import annotations

import difflib
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from neuroseg import __version__
from neuroseg.cli import (
    adapt,
    check,
    clean,
    cluster,
    demo,
    evaluate,
    importing,
    inspect,
    models,
    replay,
    run,
    status,
    train,
    validate,
    verify,
)
from neuroseg.cli.command import TypedCommand
from neuroseg.cli.interruption import INTERRUPTED, way_on
from neuroseg.errors import InputError, NeurosegError
from neuroseg.storage.space import describe_full, is_disk_full

# The base of typer's errors for wrong options and arguments, which typer itself does not export.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


class Commands(TyperGroup):
    """A group that names the close commands when one is unknown, and lists them in the pipeline's order."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command; raises InputError naming the close ones."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            names = self.list_commands(ctx)
            close = difflib.get_close_matches(name, names, n=2)
            hint = f"did you mean {' or '.join(close)}?" if close else f"commands: {', '.join(names)}"
            raise InputError(f"unknown command {name!r}; {hint}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order in which they are registered."""
        return list(self.commands)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Blockwise neuron segmentation of electron-microscopy volumes of any size.",
    epilog="Start with: neuroseg demo   |   COMMAND --help shows examples; --debug on any command shows tracebacks.",
)
app.command("demo")(demo.demo)
app.command("import")(importing.import_)
app.command("info")(inspect.info)
app.command("predict")(run.predict)
app.command("segment")(run.segment)
app.command("run")(run.run)
app.command("status")(status.status)
app.command("replay")(replay.replay)
app.command("evaluate")(evaluate.evaluate)
app.command("check")(check.check)
app.command("clean")(clean.clean)
app.command("verify")(verify.verify)
app.command("pretrain")(train.pretrain)
app.command("train")(train.train)
app.command("validate")(validate.validate)
app.command("adapt")(adapt.adapt)
app.add_typer(models.models, name="models")
app.add_typer(cluster.cluster, name="cluster")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Blockwise neuron segmentation of electron-microscopy volumes of any size."""


def exit_code(arguments: list[str]) -> int:
    """Run one command; returns its exit code. Errors go to stderr as one message; --debug adds the traceback."""
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    logging.basicConfig(
        level=logging.INFO if debug else logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr
    )
    try:
        result = app(arguments, prog_name="neuroseg", standalone_mode=False, obj=TypedCommand(arguments))
        # typer turns Ctrl-C into an ordinary return of this number.
        return _interrupted(arguments) if result == INTERRUPTED else 0
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(arguments)
    except _UsageError as error:
        error.show(file=sys.stderr)
        return InputError.exit_code
    except NeurosegError as error:
        if debug:
            logging.getLogger(__name__).exception("traceback")
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if debug:
            logging.getLogger(__name__).exception("traceback")
        if is_disk_full(error):
            full = describe_full(error, Path())
            print(f"error: {full}; make space, then run the same command again", file=sys.stderr)
            return NeurosegError.exit_code
        print(f"error: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return 1


def _interrupted(arguments: list[str]) -> int:
    print(f"interrupted{way_on(arguments)}", file=sys.stderr)
    return INTERRUPTED
