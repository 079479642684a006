"""Contingency and places -> what each true object and each segment adds to the variation of information."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroseg.evaluation.places import NOWHERE
from neuroseg.geometry import Triple
from neuroseg.storage.publish import published
from neuroseg.tables import Table, concatenated

COLUMNS = (
    "error", "id", "bits", "share", "voxels", "parts", "largest_part_voxels", "largest_parts", "z", "y", "x"
)  # fmt: skip
