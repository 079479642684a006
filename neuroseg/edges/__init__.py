"""Affinities and fragments -> the edge table (which fragments touch, and how strongly) and the node table."""
