"""Conformance tests for your own executors and stages: the tests that those of neuroseg pass.

`executors.ExecutorTests` and `stages.StageTests` are test classes for pytest. neuroseg does not install pytest: run
`pip install pytest`. No other package of neuroseg imports this one.
"""

import pytest

# With this, pytest shows the values of a failed assertion, as in your own test files.
pytest.register_assert_rewrite("neuroseg.testing.executors", "neuroseg.testing.stages")
