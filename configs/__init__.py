"""Runnable configurations, by name."""
