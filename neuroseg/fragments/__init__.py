"""Affinities -> fragments: a height per voxel, basins of steepest ascent, one name per root voxel."""
