"""A private bundle, which stores no user, answers in C as in Python."""

import numpy as np
import polars as pl
import pytest
from c_engine import CEngine, lists
from c_requests import check_same

import shortlist
from shortlist.training import train

N_USERS, N_ITEMS, LENGTH = 150, 40, 8


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    pytest.importorskip("dp_accounting")
    users = np.repeat(np.arange(N_USERS), LENGTH)
    steps = np.tile(np.arange(LENGTH), N_USERS)
    events = pl.DataFrame(
        {"user_id": users, "item_id": (users + 3 * steps) % N_ITEMS, "timestamp": steps}
    )
    out = tmp_path_factory.mktemp("private") / "a.shortlist"
    items = pl.DataFrame({"item_id": np.arange(N_ITEMS)})
    return train(events, items, out=out, settings={"privacy.epsilon": 8.0}, progress=False).bundle


def test_the_c_engine_serves_a_private_bundle(bundle):
    random = np.random.default_rng(0)
    histories = [random.integers(0, N_ITEMS + 3, n).tolist() for n in (0, 1, 3, 12, 60)]
    columns = [lists("history", histories, np.int64)]
    with shortlist.load(bundle) as engine, CEngine(bundle) as c_engine:
        expected = engine.recommend({"history": histories}, 7)
        assert expected.counts.min() == 7
        check_same(c_engine.recommend(columns, len(histories), 7), expected)
        stranger = {"user_id": [3], "history": [[]]}
        assert engine.recommend(stranger, 7).source.tolist() == ["popular"]
