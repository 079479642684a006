"""Ways to make a crop harder to read: the same tissue must still give the same affinities."""
