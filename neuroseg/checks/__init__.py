"""Check a result: verify it, replay a block, score it against a ground truth, and find missing or damaged files."""
