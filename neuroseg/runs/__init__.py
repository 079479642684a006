"""A run: options -> plan -> stages, on an executor, and what was damaged made again."""
