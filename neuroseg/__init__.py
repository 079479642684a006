"""Segment neurons in electron-microscopy volumes of any size, block by block.

    import neuroseg
    run = neuroseg.run("volume.zarr", blocks=256)
    run.segmentation[40]

`predict`, `segment` and `run` take the options of the commands of the same names. `demo_volume` writes a synthetic
volume to try them on. `Predictor` predicts arrays in memory. See neuroseg.api and docs/reference/python.md.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuroseg.api import DemoVolume, Predictor, Run, demo_volume, open_run, predict, run, segment

__version__ = "0.1.0"
__all__ = ["DemoVolume", "Predictor", "Run", "__version__", "demo_volume", "open_run", "predict", "run", "segment"]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `import neuroseg` stays fast.
    if name in __all__:
        from neuroseg import api

        return getattr(api, name)
    raise AttributeError(f"module 'neuroseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    # Editors and notebooks offer these names before their first use.
    return sorted({*globals(), *__all__})
