"""Fragments and merge tree -> the segmentation, ids 1..N, and its pyramid."""
