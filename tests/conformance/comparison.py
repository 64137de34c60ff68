"""Answers against the oracle's, rounding apart; and answers against each other, to the bit."""

import numpy as np

# Relative to the scale of the scores: float32 sums of an encoder and a scorer; and the portable
# graph's own, which squares what it takes the root of.
EXACT, PORTABLE = 3e-6, 1e-5


def assert_answers(answer, expected, world, case, answerer):
    """Raise AssertionError unless an answer is the oracle's.

    Items may change places only where their scores differ by rounding; of equal scores the lower
    row comes first, always.
    """
    assert answer.source == [request.source for request in expected]
    assert answer.counts.tolist() == [request.count for request in expected]
    if answer.stages is not None:
        assert answer.stages == [request.stages for request in expected]
    for name in ("item_ids", "scores", "rows"):
        assert getattr(answer, name).shape == (len(expected), case.top_n)
    assert answer.scores.dtype == np.float32
    for part, found in ((case.source, answer.source), (case.counts, answer.counts.tolist())):
        assert part is None or part == found
    if case.first is not None:
        assert answer.item_ids[:, 0].tolist() == case.first
    for i, request in enumerate(expected):
        tolerance = (EXACT if answerer.is_exact else PORTABLE) * request.scale
        row = (answer.item_ids[i].tolist(), answer.scores[i], answer.rows[i])
        is_chosen = case.diversity > 0 and request.source != "popular"
        assert_row(*row, request, tolerance, f"request {i}", is_chosen)
        if not case.changes:
            assert_rows_are_those_of_the_ids(*row, world)


def assert_row(item_ids, scores, rows, request, tolerance, where, is_chosen=False):
    """`is_chosen`: items are in the order in which they are chosen, whatever their scores."""
    n, wanted = request.count, dict(request.ranked)
    nothing = "" if isinstance((*item_ids, -1)[0], str) else -1
    assert item_ids[n:] == [nothing] * (len(item_ids) - n), f"{where}: ids at missing places"
    assert (rows[n:] == -1).all(), f"{where}: rows at missing places"
    assert np.isneginf(scores[n:]).all(), f"{where}: scores at missing places"
    assert len(set(item_ids[:n])) == n, f"{where}: an item twice"
    assert is_chosen or (np.diff(scores[:n]) <= 0).all(), f"{where}: scores rise"
    for place in range(n):
        item_id, (best, score) = item_ids[place], request.ranked[place]
        assert item_id in wanted, f"{where}: {item_id!r} may not come back"
        error = abs(float(scores[place]) - wanted[item_id])
        assert error <= tolerance, f"{where}: score of {item_id!r} is {error} off"
        gap = abs(wanted[item_id] - score)
        is_right = item_id == best or (not is_chosen and 0 < gap <= 2 * tolerance)
        assert is_right, f"{where}, place {place}: {item_id!r} in place of {best!r}"


def assert_rows_are_those_of_the_ids(item_ids, scores, rows, world):
    known = world.item_ids.tolist()
    assert [known[row] for row in rows if row >= 0] == [i for i in item_ids if i not in (-1, "")]
    equal = np.flatnonzero(np.diff(scores[np.isfinite(scores)]) == 0)
    assert (rows[equal] < rows[equal + 1]).all(), "of equal scores the lower row comes first"


def assert_same_bits(one, other):
    assert one.item_ids.tolist() == other.item_ids.tolist()
    assert one.rows.tolist() == other.rows.tolist()
    assert one.scores.tobytes() == other.scores.tobytes()
    assert one.counts.tolist() == other.counts.tolist()
    assert one.source == other.source
    if one.stages is not None and other.stages is not None:
        assert one.stages == other.stages
    assert one.reasons == other.reasons
