"""Affinities -> fragments: a height per voxel, basins of steepest ascent, and one name per basin."""
