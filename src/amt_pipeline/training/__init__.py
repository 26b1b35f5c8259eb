"""The training engine: configuration, loop, losses, metrics, optimisers, checkpoints."""
