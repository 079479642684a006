"""Running a stage over its blocks, here or in other processes: knows the stage contract, never a stage."""
