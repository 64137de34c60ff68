"""Turn trained Keras models into a verified bundle."""
