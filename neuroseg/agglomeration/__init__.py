"""The edge table -> one merge tree, which gives the segments at every threshold."""
