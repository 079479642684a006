"""The training steps: losses, optimiser, average of the weights, logs and checkpoints."""
