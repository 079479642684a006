"""The command line: `neuroseg --help` is the map."""
