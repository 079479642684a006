"""One step after the other: losses, optimiser, averages, and what is saved on the way."""
