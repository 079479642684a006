"""Perturbations of crops. The same tissue must still give the same affinities."""
