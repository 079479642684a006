"""Figures of volumes and results. This module sets the cache folder of matplotlib before it is imported."""

from neuroseg.caches import choose_figure_folder

choose_figure_folder()
