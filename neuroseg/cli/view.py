"""The command `view`."""

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from neuroseg.cli.command import INPUT, OUTPUT
from neuroseg.errors import InputError, NeurosegError


def view(
    address: Annotated[str, typer.Argument(metavar="WORKSPACE|V.zarr", help="Workspace or volume to look at.")],
    truth: Annotated[
        str | None,
        typer.Option(metavar="LABELS", help="Ground-truth labels: zarr or file.h5:dataset.", rich_help_panel=INPUT),
    ] = None,
    port: Annotated[
        int,
        typer.Option(metavar="N", min=0, max=65535, help="Port to listen on. 0: a free one.", rich_help_panel=OUTPUT),
    ] = 0,
    open_: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the address in a browser.", rich_help_panel=OUTPUT)
    ] = True,
) -> None:
    """Look at a volume or a run in a browser.

    It shows raw, affinities, fragments and segmentation in neuroglancer. For a run with a merge tree, a slider changes
    the threshold, and a button writes the segmentation at that threshold. Only this machine can reach the address. It
    contains a token. Press Ctrl-C to end.

    From another machine: ssh -t -C -L 8123:127.0.0.1:8123 HOST neuroseg view WORKSPACE --port 8123 --no-open

    \b
    Examples:
      neuroseg view volume.neuroseg
      neuroseg view volume.neuroseg --truth truth.h5:labels
      neuroseg view volume.zarr --port 8123 --no-open
    """
    try:
        import neuroglancer  # noqa: F401
    except ImportError as error:
        raise NeurosegError(
            "neuroseg view needs the package neuroglancer", hint="pip install 'neuroseg[viewing]'"
        ) from error
    from neuroseg.viewer.serving_loop import serve
    from neuroseg.viewer.session import Session

    session = Session(address, truth)

    def started(url: str) -> None:
        print(url, flush=True)
        if open_:
            # Other users can read the command line of the browser, but not this file, which leads to the address.
            page.write(f'<meta http-equiv="refresh" content="0;url={url}"><a href="{url}">neuroseg</a>')
            page.flush()
            webbrowser.open(Path(page.name).as_uri())

    try:
        with tempfile.NamedTemporaryFile("w", prefix="neuroseg-", suffix=".html") as page:
            serve(session, port, started)
    except OSError as error:
        raise InputError(
            f"cannot listen on port {port}: {error.strerror}", hint="choose another with --port"
        ) from error
