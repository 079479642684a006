"""Blockwise neuron segmentation of electron-microscopy volumes of any size."""

from importlib.metadata import version

__version__ = version("neuroseg")
