"""Training: examples, steps, epochs, checkpoints, the reranker."""
