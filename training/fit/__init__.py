"""Training: examples, steps, epochs, checkpoints, the reranker."""

from shortlist.training.config.environment import choose_keras

choose_keras()  # TensorFlow, which some modules here import first, imports Keras
