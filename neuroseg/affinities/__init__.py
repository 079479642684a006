"""Raw -> affinities: predicted by a network in tiles, and stored as uint8."""
