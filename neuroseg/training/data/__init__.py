"""Volumes on disk -> samples: raw, targets and how both are changed at random."""
