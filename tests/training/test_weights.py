"""Weights of another run are refused by name, with both shapes."""

import numpy as np
import pytest
import tensorflow as tf

from shortlist import DataError
from shortlist.training.models.weights import assign_weights


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"scorer: '00.kernel': got nothing, expected \(2, 3\); it was trained with other set"),
        ({"00.kernel": np.zeros((3, 2))}, r"scorer: '00.kernel': got \(3, 2\), expected \(2, 3\);"),
    ],
)
def test_other_weights_are_refused(given, message):
    variable = tf.Variable(tf.ones((2, 3)))
    with pytest.raises(DataError, match=message):
        assign_weights([("00.kernel", variable)], given, "scorer")
    assert (variable.numpy() == 1).all()
