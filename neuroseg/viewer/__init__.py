"""Look at a volume or a workspace in a browser: neuroglancer, with the threshold of the merge tree as a slider."""
