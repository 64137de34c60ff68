"""Train user and item encoders and a reranker in TensorFlow / Keras 3.

The modules beside this file are public: `events`, `entities`, `formats`, `event_weights` and
`metrics`. So are the names in `__all__` of `config`, `data`, `cleaning`, `splits` and `features`.
"""
