"""Sessions of bundles without a state; those with one are in tests/training/test_sessions.py."""

import numpy as np
import pytest
from worlds import make_world

from shortlist.loading import load


def test_all_forms_of_exclude_hold_beside_what_is_forgotten(engine, world):
    ids = world.item_ids.tolist()
    session = engine.session({"history": ids[:3]})
    session.forget(ids[1:2])
    left = set(ids) - {*ids[:3], *ids[5:7]}
    one_list = (np.array(ids[5:7]), np.array([0, 2]))
    for exclude in (ids[5:7], set(ids[5:7]), [ids[5:7]], one_list):
        found = session.recommend(len(ids), exclude=exclude)
        assert set(found[0].item_ids.tolist()) == left
    with pytest.raises(TypeError, match="exclude: got str"):
        session.recommend(exclude="107")


def test_kinds_of_the_first_history_may_be_an_array(tmp_path):
    world = make_world(tmp_path / "tiny.shortlist", scorer=None, has_events=True, with_users=False)
    ids = world.item_ids[:3]
    request = {"history": ids, "history_kinds": np.array(["view", "purchase", "view"], object)}
    plain = {"history": ids.tolist(), "history_kinds": ["view", "purchase", "view"]}
    with load(world.path) as engine:
        found = engine.session(request).recommend(5)
        assert found.item_ids.tolist() == engine.session(plain).recommend(5).item_ids.tolist()
        assert found.item_ids.tolist() == engine.recommend([plain], 5).item_ids.tolist()
