"""Blockwise neuron segmentation of electron-microscopy volumes of any size.

    import neuroseg
    run = neuroseg.run("volume.zarr", blocks=256)
    run.segmentation[40]

`predict`, `segment` and `run` take the options of the commands of the same names. `demo_volume` writes a volume to try
them on. See neuroseg.api and docs/python.md.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuroseg.api import DemoVolume, Run, demo_volume, open_run, predict, run, segment

__version__ = "0.1.0"
__all__ = ["DemoVolume", "Run", "__version__", "demo_volume", "open_run", "predict", "run", "segment"]


def __getattr__(name: str) -> Any:
    # Fetched when first asked for: `import neuroseg` alone must stay quick.
    if name in __all__:
        from neuroseg import api

        return getattr(api, name)
    raise AttributeError(f"module 'neuroseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    # Editors and notebooks complete these names before they are first used.
    return sorted({*globals(), *__all__})
