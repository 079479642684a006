"""The command line as Python functions: `neuroseg.predict`, `segment` and `run` give a `Run` to look at."""

from neuroseg.api.result import Run, open_run
from neuroseg.api.verbs import predict, run, segment

__all__ = ["Run", "open_run", "predict", "run", "segment"]
