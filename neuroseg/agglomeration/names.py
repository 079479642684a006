"""What agglomerates, by name: the merge tree, or for comparison a method that partitions at one threshold."""

from __future__ import annotations

MERGE_TREE, MULTICUT, GAEC, WATERZ = "tree", "multicut", "gaec", "waterz"
AGGLOMERATIONS = (MERGE_TREE, MULTICUT, GAEC, WATERZ)
