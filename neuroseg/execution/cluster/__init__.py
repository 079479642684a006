"""Workers on other machines, as SLURM jobs or Dask tasks, and the configuration of a cluster."""
