"""Catalogues of every kind that is hard on a bound, for the property tests."""

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SETTINGS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def heavy_tails(random, n, dim):
    return random.normal(size=(n, dim)) * 10.0 ** random.uniform(-12, 8, size=(n, 1))


def near_duplicates(random, n, dim):
    return random.normal(size=(1, dim)) + 1e-6 * random.normal(size=(n, dim))


def duplicates(random, n, dim):
    return random.normal(size=(3, dim))[random.integers(0, 3, size=n)]


def sparse(random, n, dim):
    return random.normal(size=(n, dim)) * (random.random((n, dim)) < 0.1)


def denormal(random, n, dim):
    return random.normal(size=(n, dim)) * 1e-41


def mixed_huge(random, n, dim):
    rows = random.normal(size=(n, dim))
    rows[:: max(1, n // 7)] *= 1e15
    return rows


def one_hot(random, n, dim):
    return np.eye(dim)[random.integers(0, dim, size=n)]


def all_equal(random, n, dim):
    return np.ones((n, dim))


def off_centre(random, n, dim):
    return 100 + random.normal(size=(n, dim))


def code_edges(random, n, dim):
    """Values halfway between 8-bit codes, where rounding errors are largest."""
    return (random.integers(-127, 127, size=(n, dim)) + 0.5) / 127


KINDS = [
    heavy_tails,
    near_duplicates,
    duplicates,
    sparse,
    denormal,
    mixed_huge,
    one_hot,
    all_equal,
    off_centre,
    code_edges,
    lambda random, n, dim: random.normal(size=(n, dim)),
]


@st.composite
def catalogues(draw, max_items=2500):
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, dim = draw(st.integers(1, max_items)), draw(st.integers(1, 70))
    n_queries = draw(st.integers(1, 12))
    kind = draw(st.sampled_from(KINDS))
    items = kind(random, n, dim).astype(np.float32)
    queries = draw(st.sampled_from(KINDS))(random, n_queries, dim).astype(np.float32)
    if draw(st.booleans()):  # queries among the items: scores at the edge of the bound
        queries = items[random.integers(0, n, size=n_queries)]
    return items, queries


def same(a, b):
    return (
        np.array_equal(a.indices, b.indices)
        and a.scores.tobytes() == b.scores.tobytes()
        and np.array_equal(a.counts, b.counts)
    )
