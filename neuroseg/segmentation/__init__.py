"""Fragments and merge tree -> the segmentation with ids 1..N, and its pyramid."""
