"""Files of users: section stacks, HDF5 files and zarrs. What cannot be read with certainty is refused."""
