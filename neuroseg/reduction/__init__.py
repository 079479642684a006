"""The parts of all blocks -> one table per range of fragments."""
