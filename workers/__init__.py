"""The main programs of the workers, one per kind of executor."""
