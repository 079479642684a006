"""What users bring: section stacks, HDF5 files and zarrs, read with certainty or refused."""
