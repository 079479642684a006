"""Volumes on disk -> training samples: raw and targets with random changes."""
