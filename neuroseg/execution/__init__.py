"""Run a stage over its blocks, in this process or in others. Depends on the stage contract, not on any stage."""
