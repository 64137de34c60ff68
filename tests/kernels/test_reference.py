"""The oracle's assertion must reject wrong answers, or every other test is worth nothing."""

import numpy as np
import pytest
import reference

EXPECTED = np.array([[0.5, 0.9, 0.9, 0.1]])


def check(indices, scores, counts=None):
    indices, scores = np.array([indices]), np.array([scores], np.float32)
    counts = np.array([(indices >= 0).sum()]) if counts is None else np.array(counts)
    reference.assert_top_n(indices, scores, counts, EXPECTED)


def test_right_answer_is_accepted():
    check([1, 2, 0], [0.9, 0.9, 0.5])


def test_missing_places_are_accepted():
    check([1, 2, 0, 3, -1], [0.9, 0.9, 0.5, 0.1, -np.inf])


@pytest.mark.parametrize(
    ("indices", "scores", "complaint"),
    [
        ([2, 1, 0], [0.9, 0.9, 0.5], "higher index first"),
        ([1, 2, 3], [0.9, 0.9, 0.1], "better item is missing"),
        ([0, 1, 2], [0.5, 0.9, 0.9], "not descending"),
        ([1, 1, 0], [0.9, 0.9, 0.5], "repeated"),
        ([1, 2, 0], [0.9, 0.9, 0.6], "off by"),
        ([1, 2, 0, 3, 0], [0.9, 0.9, 0.5, 0.1, 0.0], "counts"),
    ],
)
def test_wrong_answer_is_rejected(indices, scores, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check(indices, scores)


def test_score_in_a_missing_place_is_rejected():
    with pytest.raises(AssertionError, match="missing places"):
        check([1, 2, 0, 3, -1], [0.9, 0.9, 0.5, 0.1, 0.0], [4])
