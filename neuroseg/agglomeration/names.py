"""Names of the agglomeration methods: the merge tree, and methods for comparison that need a threshold."""

from __future__ import annotations

MERGE_TREE, MULTICUT, GAEC, WATERZ = "tree", "multicut", "gaec", "waterz"
AGGLOMERATIONS = (MERGE_TREE, MULTICUT, GAEC, WATERZ)
