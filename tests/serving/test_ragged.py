"""Lists of different lengths in one flat array."""

import numpy as np
import pytest

from shortlist._columns.ragged import Ragged

LISTS = [[1, 2], [3, 4, 5], [], [6]]
RAGGED = Ragged.of_lists([np.array(values, np.int64) for values in LISTS], np.int64)


def as_lists(ragged):
    return [values.tolist() for values in ragged.lists()]


def test_lists_come_back_as_they_were():
    assert as_lists(RAGGED) == LISTS
    assert RAGGED.lengths.tolist() == [2, 3, 0, 1]
    assert as_lists(Ragged.of_lengths(np.array([7, 8]), np.array([2]))) == [[7, 8]]
    assert as_lists(Ragged.of_lists([], np.int64)) == []


@pytest.mark.parametrize("chosen", [[], [0], [1], [2], [3], [3, 1], [1, 1, 0], [0, 1, 2, 3]])
def test_any_lists_can_be_taken(chosen):
    taken = RAGGED.take(np.array(chosen, dtype=np.int64))
    assert as_lists(taken) == [LISTS[i] for i in chosen]


def test_rows_are_filled_up_on_the_left():
    assert RAGGED.right_aligned(0).tolist() == [[0, 1, 2], [3, 4, 5], [0, 0, 0], [0, 0, 6]]
    assert Ragged.of_lists([np.empty(0, np.int64)], np.int64).right_aligned(-1).tolist() == [[-1]]
