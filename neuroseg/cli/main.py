"""The command `neuroseg`: its subcommands, error messages and exit codes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from neuroseg import __version__
from neuroseg.cli import (
    adapt,
    check,
    clean,
    cluster,
    demo,
    edits,
    evaluate,
    figure,
    importing,
    inspect,
    models,
    plan,
    render,
    replay,
    report,
    run,
    status,
    suspects,
    train,
    validate,
    verify,
    view,
)
from neuroseg.cli.command import Command, Commands, TypedCommand
from neuroseg.cli.interruption import INTERRUPTED, resume_hint
from neuroseg.errors import InputError, NeurosegError
from neuroseg.storage.space import describe_full, is_disk_full

# The base of typer's errors for wrong options and arguments, which typer itself does not export.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Segment neurons in electron-microscopy volumes of any size, block by block.",
    epilog="Start with neuroseg demo. Run neuroseg COMMAND --help for examples. Add --debug to a command to see the "
    "traceback of an error.",
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "import": importing.import_,
    "info": inspect.info,
    "predict": run.predict,
    "segment": run.segment,
    "plan": plan.plan,
    "run": run.run,
    "status": status.status,
    "replay": replay.replay,
    "evaluate": evaluate.evaluate,
    "figure": figure.figure,
    "render": render.render,
    "suspects": suspects.suspects,
    "edits": edits.edits,
    "report": report.report,
    "view": view.view,
    "check": check.check,
    "clean": clean.clean,
    "verify": verify.verify,
    "pretrain": train.pretrain,
    "train": train.train,
    "validate": validate.validate,
    "adapt": adapt.adapt,
}
for _name, _function in _COMMANDS.items():
    app.command(_name, cls=Command)(_function)
app.add_typer(models.models, name="models")
app.add_typer(cluster.cluster, name="cluster")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Segment neurons in electron-microscopy volumes of any size, block by block."""


def exit_code(arguments: list[str]) -> int:
    """Run one command and return its exit code. Print an error as one message on stderr; --debug adds its traceback."""
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    logging.basicConfig(
        level=logging.INFO if debug else logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr
    )
    try:
        result = app(arguments, prog_name="neuroseg", standalone_mode=False, obj=TypedCommand(arguments))
        # typer returns this number after Ctrl-C instead of raising.
        return _interrupted(arguments) if result == INTERRUPTED else 0
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(arguments)
    except _UsageError as error:
        _show_usage_error(error)
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
            print(f"error: {full}\nhint: free some space, then run the same command again", file=sys.stderr)
            return NeurosegError.exit_code
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        if not debug:
            print("hint: add --debug to see the traceback", file=sys.stderr)
        return 1


def _show_usage_error(error: Any) -> None:
    """Print an error of typer as an error and a hint. A command without arguments shows its help instead."""
    if type(error).show is not _UsageError.show:
        error.show(file=sys.stderr)
        return
    close = sorted(getattr(error, "possibilities", None) or [])
    message = (error.message if close else error.format_message()).rstrip(".")
    command = error.ctx.command_path if error.ctx else "neuroseg"
    hint = f"did you mean {' or '.join(close)}?" if close else f"see {command} --help"
    print(f"error: {message[:1].lower()}{message[1:]}\nhint: {hint}", file=sys.stderr)


def _interrupted(arguments: list[str]) -> int:
    print(f"interrupted{resume_hint(arguments)}", file=sys.stderr)
    return INTERRUPTED
