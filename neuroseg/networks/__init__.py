"""Architectures and bundles: what prediction and training share."""
