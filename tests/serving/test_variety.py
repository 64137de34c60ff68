"""`at_most`, `at_least` and `diversity` of `Engine.recommend`, against lists made by hand."""

import copy
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from shortlist import Epsilon, FeedbackLog
from shortlist.errors import DataError
from shortlist.loading import load

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from varied_lists import Wish, brute_force

N_CANDIDATES, N_ITEMS = 12, 40  # as in the tiny bundle's manifest


@pytest.fixture(scope="module")
def shop(world):
    """The tiny bundle, its years set to five brands, some of them unknown."""
    with load(world.path) as engine:
        years = [None if i % 9 == 0 else 2000 + i % 5 for i in range(N_ITEMS)]
        ids = world.item_ids.tolist()
        engine.upsert_items([{"item_id": i, "year": y} for i, y in zip(ids, years, strict=True)])
        yield engine


def years_of(engine):
    table = engine.items.to_pydict()
    return dict(zip(table["item_id"], table["year"], strict=True))


def greedy(order, brand, most, top_n):
    """Walk down an order; items without a brand are never too many."""
    taken, counts = [], {}
    for item in order:
        own = brand[item]
        if len(taken) < top_n and (own is None or counts.get(own, 0) < most):
            counts[own] = counts.get(own, 0) + 1
            taken.append(item)
    return taken


def real(answer, request=0):
    return answer[request].item_ids.tolist()


REQUESTS = [{"history": [100, 170]}, {"user_id": 5}, {"city": "Köln"}, {}]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_caps_walk_down_the_order_of_one_stage(shop, most):
    order = shop.recommend(REQUESTS, top_n=N_ITEMS, stages=1)
    answer = shop.recommend(REQUESTS, top_n=9, stages=1, at_most={"year": most})
    for i in range(len(REQUESTS)):
        assert real(answer, i) == greedy(real(order, i), years_of(shop), most, 9)
        assert (np.diff(answer[i].scores) <= 0).all()


def test_filters_and_caps_of_each_request(shop):
    wheres = ["year > 2001", None, "year = 2003", "year is null or year < 2002"]
    caps = [{"year": 1}, None, {"year": 2}, {"year": 2, "genres": 4}]
    order = shop.recommend(REQUESTS, N_ITEMS, where=wheres, stages=1)
    answer = shop.recommend(REQUESTS, 9, where=wheres, stages=1, at_most=caps)
    brand = years_of(shop)
    assert real(answer, 0) == greedy(real(order, 0), brand, 1, 9)
    assert real(answer, 1) == real(order, 1)[:9]
    assert real(answer, 2) == greedy(real(order, 2), brand, 2, 9)
    assert len(real(answer, 3)) == 4  # all are drama


def test_caps_under_a_second_stage_take_more_candidates_where_they_must(shop):
    brand, request = years_of(shop), [{"history": [100, 170, 114]}]
    for most, top_n in ((1, 9), (2, 10), (3, 20)):
        left, taken, counts = set(brand), [], {}
        while left and len(taken) < top_n:
            width = max(top_n, N_CANDIDATES)
            round_ = shop.recommend(request, width, stages=2, allow=sorted(left))
            for item in real(round_):
                own = brand[item]
                if len(taken) < top_n and (own is None or counts.get(own, 0) < most):
                    counts[own] = counts.get(own, 0) + 1
                    taken.append(item)
            if len(real(round_)) < width:
                break
            full = {own for own, n in counts.items() if n >= most and own is not None}
            left = {item for item in left if item not in taken and brand[item] not in full}
        answer = shop.recommend(request, top_n, at_most={"year": most})
        assert set(real(answer)) == set(taken)
        assert (np.diff(answer[0].scores) <= 0).all()
        assert answer.stages.tolist() == [2]


def test_quotas_reserve_places_and_lacks_are_reported(shop):
    brand = years_of(shop)
    for stages in (1, 2):
        given = {"stages": stages, "at_least": {"year = 2003": 4, "n_events > 1000": 1}}
        answer = shop.recommend(REQUESTS, 6, **given)
        for i in range(len(REQUESTS)):
            assert sum(brand[item] == 2003 for item in real(answer, i)) >= 4
            assert len(real(answer, i)) == 6
            assert answer[i].unmet == {"n_events > 1000": 1}
        assert answer.to_dicts()[0]["unmet"] == {"n_events > 1000": 1}
        assert "unmet: 1 fewer than asked of n_events > 1000" in repr(answer)
        again = pickle.loads(pickle.dumps(answer))
        assert again.unmet == copy.copy(answer).unmet == answer.unmet
    plain = shop.recommend(REQUESTS, 6)
    assert plain.unmet == [{}] * 4
    assert "unmet" not in plain.to_dicts()[0]


@pytest.mark.parametrize("diversity", [0.2, 0.6, 1.0])
def test_diversity_is_mmr_over_all_items_of_one_stage(shop, diversity):
    requests = [{"history": [100, 170]}, {"history": [121]}]
    answer = shop.recommend(requests, 8, stages=1, diversity=diversity, at_most={"year": 2})
    assert answer.stages.tolist() == [1, 1]
    stored = shop.index.vectors(np.arange(N_ITEMS))
    values = [[] if y is None else [y] for y in years_of(shop).values()]
    for i, query in enumerate(shop.encode_users(requests)):
        allowed = ~np.isin(shop.index.item_ids, requests[i]["history"])
        wish = Wish(8, [(values, 2)], diversity=diversity)
        rows, scores, _ = brute_force(stored, query, "cosine", allowed, wish)
        assert answer.indices[i].tolist() == rows
        assert answer.scores[i].tobytes() == scores.tobytes()


def shares_of(items, genres):
    """What part each value has, an item's unit split evenly; items without values left out."""
    own = [genres[item] for item in items if genres.get(item)]
    shares = {}
    for values in own:
        for value in values:
            shares[value] = shares.get(value, 0) + 1 / len(values) / len(own)
    return shares


def test_lists_are_calibrated_to_the_history_own_stored_or_given(world):
    with load(world.path) as engine:
        ids = world.item_ids.tolist()
        kinds = [["drama"], ["war", "drama"], ["war"], [], None]
        engine.upsert_items([{"item_id": i, "genres": kinds[k % 5]} for k, i in enumerate(ids)])
        genres = dict(zip(ids, engine.items.column("genres").to_pylist(), strict=True))
        codes = {"drama": 0, "war": 1}
        values = [[codes[value] for value in genres[i] or []] for i in ids]
        vectors = engine.index.vectors(np.arange(N_ITEMS))
        requests = [{"history": ids[:3]}, {"history": [ids[1], 12345, ids[3], ids[1]]}]
        wanted = [shares_of(request["history"], genres) for request in requests]
        answer = engine.recommend(requests, 8, stages=1, calibrate={"genres": ("history", 0.7)})
        given = engine.recommend(
            requests, 8, stages=1, calibrate=[{"genres": (w, 0.7)} for w in wanted]
        )
        for i, query in enumerate(engine.encode_users(requests)):
            allowed = ~np.isin(world.item_ids, requests[i]["history"])
            shares = {codes[value]: share for value, share in wanted[i].items()}
            wish = Wish(8, target=(values, shares, 0.7))
            rows, scores, _ = brute_force(vectors, query, "cosine", allowed, wish)
            assert answer.indices[i].tolist() == rows
            assert given.indices[i].tolist() == rows
            assert answer.scores[i].tobytes() == scores.tobytes()
        assert answer.stages.tolist() == [1, 1]


def chosen_by_hand(candidates, similarities, vectors, top_n, diversity):
    """MMR among candidates in the order of a second stage."""
    alike = (vectors[candidates].astype(np.float64) @ vectors[candidates].T).astype(np.float32)
    taken = [0]
    while len(taken) < top_n:
        values = (1 - diversity) * similarities.astype(np.float64)
        values -= diversity * alike[taken].max(axis=0).astype(np.float64)
        values[taken] = -np.inf
        taken.append(int(np.lexsort([candidates, -values])[0]))
    return candidates[taken], similarities[taken]


@pytest.mark.parametrize("diversity", [0.2, 0.6, 1.0])
def test_with_a_second_stage_its_order_is_weighed(shop, diversity):
    requests = [{"history": [100, 170]}, {"history": [121]}, {"history": [135]}]
    nearest, served = (shop.recommend(requests, N_CANDIDATES, stages=stages) for stages in (1, 2))
    answer = shop.recommend(requests, 8, diversity=[diversity, diversity, 0.0])
    assert answer.stages.tolist() == [2, 2, 2]
    vectors = shop.index.vectors(np.arange(N_ITEMS))
    for i in range(2):
        given = (served.indices[i], nearest.scores[i], vectors, 8, diversity)
        rows, scores = chosen_by_hand(*given)
        assert answer.indices[i].tolist() == rows.tolist()
        assert answer.scores[i].tobytes() == scores.tobytes()
    assert answer.indices[2].tolist() == served.indices[2, :8].tolist()
    assert answer.scores[2].tobytes() == served.scores[2, :8].tobytes()


@pytest.mark.parametrize("history", [[100, 170, 114], [121, 135], [142]])
def test_candidates_that_come_later_are_compared_with_what_was_chosen(shop, history):
    request, brand, vectors = [{"history": history}], years_of(shop), shop.index.vectors
    ids = shop.index.item_ids.tolist()
    pool, taken = {}, []  # row -> similarity by rank; rows in the order of choice

    def fits(row):
        own = brand[ids[row]]
        return row not in taken and (own is None or [brand[ids[t]] for t in taken].count(own) < 2)

    def value(row):
        if not taken:
            return float(pool[row]), 0.0
        alike = vectors(np.array(taken)).astype(np.float64) @ vectors(np.array([row]))[0]
        return 0.4 * float(pool[row]) - 0.6 * float(alike.astype(np.float32).max()), -row

    while len(taken) < 12:
        left = [ids[row] for row in range(N_ITEMS) if fits(row)]
        both = [shop.recommend(request, 12, stages=n, allow=left)[0] for n in (1, 2)]
        n_new = len(both[1].item_ids)
        pool.update(
            zip(map(ids.index, both[1].item_ids.tolist()), both[0].scores[:n_new], strict=True)
        )
        n_before = len(taken)
        while len(taken) < 12 and (free := [row for row in pool if fits(row)]):
            taken.append(max(free, key=value))
        if len(taken) == n_before:
            break
    answer = shop.recommend(request, 12, diversity=0.6, at_most={"year": 2})
    assert [ids.index(item) for item in real(answer)] == taken


def test_more_candidates_are_weighed_where_caps_leave_too_few(shop):
    request, brand = [{"history": [100, 170, 114]}], years_of(shop)
    wants = {"diversity": 0.5, "at_most": {"year": 2}, "at_least": {"year = 2003": 2}}
    answer = shop.recommend(request, 12, **wants)
    taken = [brand[item] for item in real(answer)]
    assert len(set(real(answer))) == 12
    assert all(taken.count(year) <= 2 for year in range(2000, 2005))
    assert taken.count(2003) == 2
    assert answer.unmet == [{}]


def test_a_known_user_is_calibrated_to_the_stored_history(world):
    with load(world.path) as engine:
        ids = world.item_ids.tolist()
        engine.upsert_items(
            [{"item_id": i, "genres": ["war" if k % 2 else "drama"]} for k, i in enumerate(ids)]
        )
        genres = dict(zip(ids, engine.items.column("genres").to_pylist(), strict=True))
        answer = engine.recommend([{"user_id": 5}], 8, calibrate={"genres": ("history", 0.9)})
        assert answer.source.tolist() == ["stored history"]
        stored = world.stored.to_pylist()
        history = next(user["history"] for user in stored if user["user_id"] == 5)
        wanted = shares_of([item for item in history if item in genres], genres)
        given = engine.recommend([{"user_id": 5}], 8, calibrate={"genres": (wanted, 0.9)})
        assert real(answer) == real(given)


def test_without_values_in_the_history_nothing_is_calibrated(shop):
    requests = [{"city": "Köln"}, {}, {"history": [987654321]}]
    plain = shop.recommend(requests, 7, stages=1)
    answer = shop.recommend(requests, 7, calibrate={"genres": ("history", 1.0)})
    assert [real(answer, i) for i in range(3)] == [real(plain, i) for i in range(3)]


def test_scores_are_dampened_by_numbers_of_events(world):
    with load(world.path) as engine:
        request = [{"history": [100, 170]}]
        order = engine.recommend(request, N_ITEMS, stages=1)
        events = dict(zip(*(engine.items.column(c).to_pylist() for c in ("item_id", "n_events")),
                          strict=True))  # fmt: skip
        terms = np.log1p([events[item] for item in real(order)])
        expected = (order[0].scores.astype(np.float64) - 0.1 * terms).astype(np.float32)
        best = np.argsort(-expected, kind="stable")[:9]
        answer = engine.recommend(request, 9, stages=1, popularity_dampening=0.1)
        assert real(answer) == [real(order)[i] for i in best]
        assert answer[0].scores.tobytes() == expected[best].tobytes()
        popular = engine.recommend([{}], 9)
        assert real(engine.recommend([{}], 9, popularity_dampening=5.0)) == real(popular)


def test_diversity_of_a_popular_list_changes_nothing_but_caps_do(shop):
    popular = shop.recommend([{}], N_ITEMS)
    assert real(shop.recommend([{}], 7, diversity=0.9)) == real(popular)[:7]
    capped = shop.recommend([{}], 7, diversity=0.9, at_most={"year": 1})
    assert real(capped) == greedy(real(popular), years_of(shop), 1, 7)


def test_a_batch_gives_what_its_requests_give_alone(shop):
    requests = [{"history": [100 + 7 * (i % N_ITEMS)]} for i in range(130)]
    for given in ({"at_most": {"year": 1}}, {"diversity": 0.4, "at_least": {"year = 2001": 2}}):
        whole = shop.recommend(requests, 5, **given)
        for i in (0, 63, 64, 129):
            assert real(whole, i) == real(shop.recommend([requests[i]], 5, **given))


def test_calls_that_share_runs_keep_their_caps(world):
    with load(world.path, max_batch=8) as engine:
        answer = engine.recommend([{"history": [100]}], 9, at_most={"genres": 2})
        assert answer.counts.tolist() == [2]


def test_a_column_is_read_anew_when_items_change(world):
    with load(world.path) as engine:
        request = [{"history": [100]}]
        assert engine.recommend(request, 9, at_most={"genres": 3}).counts.tolist() == [3]
        engine.upsert_items([{"item_id": 9001, "genres": ["comedy"]}])
        assert engine.recommend(request, N_ITEMS, at_most={"genres": 3}).counts.tolist() == [4]
        engine.remove_items([9001])
        assert engine.recommend(request, N_ITEMS, at_most={"genres": 3}).counts.tolist() == [3]


def test_a_trial_answers_its_part_under_the_same_conditions(world):
    with load(world.path) as engine:
        requests = [{"user_id": i, "history": [100]} for i in range(12)]
        alone = engine.recommend(requests, 6, at_least={"year > 3000": 2})
        engine.start_trial(world.path, share=0.5)
        both = engine.recommend(requests, 6, at_least={"year > 3000": 2})
        assert set(both.version.tolist()) == {1, 2}
        assert both.unmet == alone.unmet == [{"year > 3000": 2}] * 12


def test_what_is_recorded_has_no_propensity(shop, tmp_path):
    log = FeedbackLog(tmp_path / "log.db")
    shop.recommend({"user_id": [5]}, 4, feedback=log, record=True, at_most={"year": 1})
    assert log.read().column("propensity").null_count == 4
    with pytest.raises(TypeError, match="explore: got Epsilon beside at_most"):
        shop.recommend({"user_id": [5]}, 4, explore=Epsilon(0.1), diversity=0.2)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"at_most": {"yaer": 1}}, DataError, "at_most: unknown column 'yaer'; did you mean"),
        ({"at_most": {"year": 0}}, ValueError, r"at_most\['year'\]: got 0; expected an int >= 1"),
        ({"at_most": [{"year": 1}]}, ValueError, "got 1 entries; expected one for each request"),
        ({"at_least": {"year > 1": 11}}, ValueError, "got 11 for lists of 10"),
        ({"at_least": {"title": 1}}, DataError, "column 'title' is string, expected a column of"),
        ({"at_least": {"yaer > 1": 1}}, DataError, r"at_least\['yaer > 1'\]: where: "),
        ({"diversity": -0.1}, ValueError, "diversity: got -0.1, expected a number from 0"),
        (
            {"calibrate": {"yaer": "history"}},
            DataError,
            "calibrate: unknown column 'yaer'; did you",
        ),
        (
            {"calibrate": {"genres": {"dram": 1}}},
            ValueError,
            r"shares of \['dram'\], which no item",
        ),
    ],
)
def test_messages(shop, given, error, words):
    with pytest.raises(error, match=words):
        shop.recommend(REQUESTS, **given)


def test_numbers_of_many_values_are_no_groups():
    import pyarrow as pa

    from shortlist._catalogue.groups import read_groups

    table = pa.table({"price": np.arange(1001.0), "tags": [[["x"]]] * 1001})
    with pytest.raises(
        DataError, match=r"'price' \(double\) has 1,001 different numbers, expected"
    ):
        read_groups(table, "price")
    codes, splits = read_groups(table.slice(0, 5), "price").column
    assert codes.tolist() == [0, 1, 2, 3, 4]
    assert splits is None
    with pytest.raises(DataError, match="column 'tags' is list"):
        read_groups(table, "tags")
