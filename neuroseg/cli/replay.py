"""The command `replay`."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from neuroseg.errors import InputError, NeurosegError


def replay(
    workspace: Annotated[str, typer.Argument(help="A workspace, V.neuroseg.")],
    stage: Annotated[str, typer.Argument(help="The block's stage.")],
    block: Annotated[int, typer.Argument(help="The block's number, as errors and neuroseg status name it.")],
    input: Annotated[
        str | None, typer.Option(metavar="NEW", help="Where the run's input lies now, if it moved.")
    ] = None,
    pdb: Annotated[bool, typer.Option("--pdb", help="Where it fails, look around with Python's debugger.")] = False,
    serial: Annotated[bool, typer.Option("--serial", help="One thread, to follow what happens one by one.")] = False,
) -> None:
    """Do one block of a run again, in this process, with nothing else running; shows the traceback when it fails.

    WORKSPACE/failures/STAGE-BLOCK has what was known of the failure. A block that succeeds counts as done.

    \b
    Example: neuroseg replay volume.neuroseg fragments 5 --pdb --serial
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
        raise NeurosegError(f"stage {stage}, block {block} fails here too: {type(error).__name__}: {error}") from error
    print(f"stage {stage}, block {block} is done; the run's command continues with what is left", file=sys.stderr)
