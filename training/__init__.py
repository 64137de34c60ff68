"""Train user and item encoders and a scorer in TensorFlow / Keras 3."""
