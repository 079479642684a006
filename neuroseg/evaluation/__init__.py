"""Segmentation and ground truth -> scores."""
