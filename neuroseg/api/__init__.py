"""The command line as Python functions: `neuroseg.predict`, `segment` and `run` return a `Run`. And `Predictor`."""

from neuroseg.api.demo import DemoVolume, demo_volume
from neuroseg.api.predictor import Predictor
from neuroseg.api.result import Run, open_run
from neuroseg.api.verbs import predict, run, segment

__all__ = ["DemoVolume", "Predictor", "Run", "demo_volume", "open_run", "predict", "run", "segment"]
