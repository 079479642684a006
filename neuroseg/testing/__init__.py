"""Conformance suites that executors and stages inherit: write your own and have it pass what ours pass.

`executors.ExecutorTests` and `stages.StageTests` are classes of tests for pytest, which neuroseg does not install: `pip
install pytest`. Nothing else in neuroseg imports this room.
"""

import pytest

# A failed assertion then shows its values, as in a test file of yours.
pytest.register_assert_rewrite("neuroseg.testing.executors", "neuroseg.testing.stages")
