"""Items that come, change and go in the C engine: the same as `Engine.upsert_items` does."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.compute as pc
import pytest
from c_engine import CEngine, column, filter_of, lists
from c_requests import check_same, columns_of, random_requests

import shortlist

GENRES = [["drama"], ["war", "drama"], [], ["?"], ["war"]]


def kind_of(world):
    return object if world.item_ids.dtype.kind == "U" else np.int64


def new_ids_of(world, n):
    numbers = range(5000, 5000 + n)
    return [f"新{number}" for number in numbers] if kind_of(world) is object else list(numbers)


def contents(n, first=0):
    """Features of n items, missing ones among them."""
    genres = [GENRES[(first + i) % 5] for i in range(n)]
    years = [None if (first + i) % 4 == 3 else 1970.0 + 3 * (first + i) for i in range(n)]
    return genres, years


class Both:
    """The Python engine and the C engine, given the same items."""

    def __init__(self, world, engine, c_engine):
        self.world, self.engine, self.c_engine = world, engine, c_engine

    def upsert(self, ids, genres, years):
        self.engine.upsert_items({"item_id": ids, "genres": genres, "year": years})
        self.c_engine.upsert(ids, self.columns(genres, years))

    def columns(self, genres, years):
        numbers = np.array([np.nan if year is None else year for year in years], np.float32)
        return [lists("genres", genres, object), column("year", numbers)]

    def remove(self, ids):
        assert self.engine.remove_items(ids) == self.c_engine.remove(ids)

    def history(self, histories):
        return [lists("history", histories, kind_of(self.world))]

    def check(self, histories=(), top_n=60):
        """Answers with and without what is known, and the items themselves."""
        requests = random_requests(self.world, 24)
        requests["history"][: len(histories)] = histories
        columns = columns_of(self.world, requests)
        for exclude_seen in (True, False):
            expected = self.engine.recommend(requests, top_n, exclude_seen)
            check_same(self.c_engine.recommend(columns, 24, top_n, not exclude_seen), expected)
        check_same(self.c_engine.recommend([], 1, top_n), self.engine.recommend([{}], top_n))
        self.check_view()

    def check_view(self):
        view, state = self.c_engine.view(), self.engine._switch.loaded.state
        ids = view.item_ids()
        assert ids == state.ids[:-1].tolist()
        assert view.info.n_items == len(self.engine.index)
        known = [row for row, item_id in enumerate(ids) if item_id not in (-1, "")]
        assert view.vectors(known).tobytes() == self.engine.index.vectors(known).tobytes()
        view.close()


@pytest.fixture(params=["bundle", "text_bundle"])
def both(request):
    world = request.getfixturevalue(request.param)
    with shortlist.load(world.path) as engine, CEngine(world.path) as c_engine:
        yield Both(world, engine, c_engine)


def test_new_items_are_found_by_their_features(both):
    new = new_ids_of(both.world, 5)
    both.upsert(new, *contents(5))
    known = both.world.item_ids.tolist()
    both.check([[known[3], new[0]], [new[1]], [known[3], new[0], new[4], known[9]]])


def test_changed_items_get_other_vectors_and_keep_their_rows(both):
    known = both.world.item_ids.tolist()
    both.upsert([known[8], known[3]], *contents(2))
    both.check([[known[3], known[8]], [known[8]]])
    view = both.c_engine.view()
    assert view.item_ids() == known
    view.close()


def test_items_of_the_hosts_own_vectors_are_those_of_their_features(both):
    new, (genres, years) = new_ids_of(both.world, 5), contents(5)
    table = {"item_id": new, "genres": genres, "year": years}
    both.engine.upsert_items(table)
    both.c_engine.upsert(new, vectors=both.engine.encode_items(table))
    both.check()


def test_removed_items_never_come_back_but_count_in_histories(both):
    known = both.world.item_ids.tolist()
    strange = new_ids_of(both.world, 1)
    both.remove([known[3], known[0], *strange])
    both.check([[known[3]], [known[8], known[3], known[0]]])
    assert both.c_engine.remove(strange) == 0


def test_an_item_that_comes_back_has_a_new_row_and_is_known_to_the_encoder(both):
    known = both.world.item_ids.tolist()
    both.remove([known[8]])
    both.upsert([known[8]], [["war"]], [1999.0])
    both.check([[known[8]], [known[3], known[8]]])
    view = both.c_engine.view()
    assert view.rows_of([known[8]]).tolist() == [40]
    view.close()


def test_popular_items_are_those_that_are_left_and_new_ones_come_last(both):
    new, known = new_ids_of(both.world, 2), both.world.item_ids.tolist()
    before = both.c_engine.recommend([], 1, 3).item_ids[0].tolist()
    both.upsert(new, *contents(2))
    both.remove(before[:1])
    expected = both.engine.recommend([{}], top_n=60)
    found = both.c_engine.recommend([], 1, 60)
    check_same(found, expected)
    assert found.item_ids[0, :2].tolist() == before[1:]
    assert set(known) - {before[0]} == set(found.item_ids[0, : len(known) - 1].tolist()) - set(new)


def test_rows_that_are_closed_up_stay_with_their_items(both):
    """Items come and go until the index numbers its rows anew, and after it."""
    rng, alive = np.random.default_rng(1), both.world.item_ids.tolist()
    new, is_renumbered, n_rows = new_ids_of(both.world, 1600), False, 40
    for step in range(8):
        ids = [new.pop() for _ in range(200)] + rng.choice(alive, 2, replace=False).tolist()
        both.upsert(ids, *contents(202, step))
        alive += ids[:200]
        gone = rng.choice(alive, 199, replace=False).tolist()
        both.remove(gone)
        alive = [item_id for item_id in alive if item_id not in gone]
        view = both.c_engine.view()
        is_renumbered |= view.info.n_rows < n_rows
        n_rows = view.info.n_rows
        view.close()
        if step % 3 == 1:
            both.check([alive[:3], gone[:3], [*gone[:1], *alive[-2:]]], top_n=80)
    assert is_renumbered


def test_filters_take_the_rows_and_masks_of_the_view(both):
    new, known = new_ids_of(both.world, 3), both.world.item_ids.tolist()
    both.upsert(new, *contents(3))
    both.remove([known[5]])
    wanted = [*known[4:8], *new[:2]]
    view = both.c_engine.view()
    mask = np.array([item_id in wanted for item_id in view.item_ids()])
    requests = random_requests(both.world, 2)
    columns = columns_of(both.world, requests)
    expected = both.engine.recommend(requests, 8, where=pc.field("item_id").isin(wanted))
    rows = view.rows_of(wanted).tolist()
    for chosen in (
        filter_of(allow_mask=mask),
        filter_of(allow_mask=np.tile(mask, (2, 1))),
        filter_of(allow=rows, as_rows=True),
        filter_of(allow=wanted),
    ):
        check_same(both.c_engine.recommend(columns, 2, 8, filter=chosen), expected)
    view.close()


def test_an_upsert_of_nothing_changes_nothing(both):
    before = both.c_engine.view()
    both.c_engine.upsert([])
    assert both.c_engine.remove([]) == 0
    after = both.c_engine.view()
    assert after.info.version == before.info.version
    before.close(), after.close()


def test_a_view_stays_what_it_was(both):
    known = both.world.item_ids.tolist()
    view = both.c_engine.view()
    both.remove(known[:5])
    both.upsert(new_ids_of(both.world, 2), *contents(2))
    assert view.item_ids() == known
    view.close()


def test_a_swap_brings_the_other_bundles_items(bundle, other):
    requests = random_requests(bundle, 20)
    columns = columns_of(bundle, requests)
    with CEngine(bundle.path) as c_engine:
        both = Both(bundle, None, c_engine)
        c_engine.upsert([900], both.columns([["war"]], [1999.0]))
        c_engine.remove([100, 107])
        for world in (other, bundle):
            c_engine.swap(world.path)
            with shortlist.load(world.path) as engine:
                check_same(c_engine.recommend(columns, 20, 60), engine.recommend(requests, 60))
            view = c_engine.view()
            assert view.item_ids() == world.item_ids.tolist()
            view.close()


def test_callers_see_all_of_an_update_or_nothing(both):
    """One thread adds and removes three items at a time, eight others ask meanwhile."""
    new, (genres, years) = new_ids_of(both.world, 3), contents(3)
    known = both.world.item_ids.tolist()
    asked = [*both.history([[known[3], new[0]], []])]
    columns = both.columns(genres, years)
    is_over, states = threading.Event(), []

    def answer():
        found = both.c_engine.recommend(asked, 2, 60)
        return found.item_ids.tolist(), found.scores.tobytes(), found.counts.tolist()

    for _ in range(2):
        states.append(answer())
        both.c_engine.upsert(new, columns)
        states.append(answer())
        both.c_engine.remove(new)
    assert states[0] == states[2] != states[1] == states[3]

    def ask(_):
        seen = []
        while not is_over.is_set():
            found = answer()
            assert found in states[:2]
            seen.append(found == states[1])
        return seen

    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(ask, range(8))
        for _ in range(60):
            both.c_engine.upsert(new, columns)
            time.sleep(0.002)  # some answers of each state
            assert both.c_engine.remove(new) == 3
            time.sleep(0.002)
        is_over.set()
        seen = [one for each in answers for one in each]
    assert any(seen)
    assert not all(seen)
