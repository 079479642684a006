"""The edge table -> one merge tree, which answers every threshold."""
