"""Raw -> affinities: tiles on the origin's lattice, through the network, stored as uint8."""
