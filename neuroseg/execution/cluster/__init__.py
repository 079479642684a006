"""Workers on other machines: SLURM's job arrays and Dask's tasks, and what a cluster is like."""
