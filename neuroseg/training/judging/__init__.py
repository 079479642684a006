"""Validation: scores of a network, its best threshold, its bundle, and the time that a training takes."""
