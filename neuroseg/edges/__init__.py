"""Affinities and fragments -> the edge table (pairs of touching fragments) and the node table."""
