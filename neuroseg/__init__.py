"""Blockwise neuron segmentation of electron-microscopy volumes of any size.

    import neuroseg
    neuroseg.run("volume.zarr", blocks=256)

mirrors the command line: `predict`, `segment` and `run` take the same options by name and return the workspace.
"""

from typing import Any

__version__ = "0.1.0"


def predict(volume: str, *, restart: str | None = None, **options: Any) -> Any:
    """Predict the affinities of a volume; returns its workspace. Options as in `neuroseg predict --help`."""
    return _call("predict", {"volume": volume, **options}, restart)


def segment(volume: str | None = None, *, restart: str | None = None, **options: Any) -> Any:
    """Segment a volume's affinities, or `affinities=` or `boundaries=` from elsewhere; returns the workspace."""
    return _call("segment", {"volume": volume, **options}, restart)


def run(volume: str, *, restart: str | None = None, **options: Any) -> Any:
    """Predict and segment a volume; returns its workspace. Options as in `neuroseg run --help`."""
    return _call("run", {"volume": volume, **options}, restart)


def _call(verb: str, flags: dict[str, Any], restart: str | None) -> Any:
    # Imported here: `import neuroseg` alone must stay quick.
    from neuroseg.runs import pipeline
    from neuroseg.runs.options import options_from

    workspace, _ = getattr(pipeline, verb)(options_from(None, flags), restart=restart)
    return workspace
