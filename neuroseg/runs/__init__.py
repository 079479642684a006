"""A run: options -> plan -> stages on an executor, and recomputing damaged files."""
