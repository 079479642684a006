"""How workers are launched on each engine: thin mains."""
