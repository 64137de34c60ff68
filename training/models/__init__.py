"""The models: encoders, the scorer and the baselines."""

from shortlist.training.config.environment import check_keras, choose_keras

choose_keras()

import keras  # noqa: E402  only now

check_keras(keras)
