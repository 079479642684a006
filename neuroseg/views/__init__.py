"""Figures of volumes and results. matplotlib is given a folder for its caches before it is imported."""

from neuroseg.caches import choose_figure_folder

choose_figure_folder()
