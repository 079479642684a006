"""The command line as Python functions: `neuroseg.predict`, `segment` and `run` return a `Run`."""

from neuroseg.api.demo import DemoVolume, demo_volume
from neuroseg.api.result import Run, open_run
from neuroseg.api.verbs import predict, run, segment

__all__ = ["DemoVolume", "Run", "demo_volume", "open_run", "predict", "run", "segment"]
