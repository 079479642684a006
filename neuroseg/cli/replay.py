"""The command `replay`."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from neuroseg.errors import InputError, NeurosegError


def replay(
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Workspace of the run.")],
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="Stage of the block, such as fragments.")],
    block: Annotated[
        int, typer.Argument(metavar="BLOCK", help="Number of the block, from an error message or neuroseg status.")
    ],
    input: Annotated[str | None, typer.Option(metavar="PATH", help="New path of the run's input, if it moved.")] = None,
    pdb: Annotated[bool, typer.Option("--pdb", help="Open pdb where the block fails.")] = False,
    serial: Annotated[bool, typer.Option("--serial", help="Use one thread, to debug step by step.")] = False,
) -> None:
    """Run one block again to debug it.

    Use it after a block failed. It runs the block in this process and prints the traceback. The folder
    WORKSPACE/failures/STAGE-BLOCK describes the first failure. If the block succeeds, it counts as done.

    \b
    Examples:
      neuroseg replay volume.neuroseg fragments 5
      neuroseg replay volume.neuroseg fragments 5 --pdb --serial
    """
    from neuroseg.checks.replay import replay_block
    from neuroseg.runs.cores import own_cores
    from neuroseg.storage.arrays import use_threads

    use_threads(1 if serial else own_cores())
    try:
        replay_block(workspace, stage, block, input)
    except InputError:
        raise
    except Exception as error:
        traceback.print_exc()
        if pdb:
            import pdb as debugger

            debugger.post_mortem(error.__traceback__)
        raise NeurosegError(f"stage {stage}, block {block} failed again: {type(error).__name__}: {error}") from error
    print(f"stage {stage}, block {block} is done", file=sys.stderr)
    print("  next: to finish the run, repeat its neuroseg run or neuroseg segment command", file=sys.stderr)
