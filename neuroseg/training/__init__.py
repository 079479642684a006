"""Training: labelled volumes -> samples -> targets -> network -> bundle."""
