"""`Engine.similar` and `Engine.recommend_group` against brute force."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pytest
from tiny_graphs import followers_of
from worlds import N_ITEMS, make_world

from shortlist import DataError, ShortlistError
from shortlist._serving import similar
from shortlist._serving.loaded_bundle import LoadedBundle
from shortlist.cli import main
from shortlist.export.tables import write_table
from shortlist.loading import load


def add_followers(path):
    """Put the tiny table of followers into a bundle."""
    table = followers_of(N_ITEMS)
    lists = [table.get(row, []) for row in range(N_ITEMS)]
    rows = pa.array([[row for row, _ in own] for own in lists], pa.list_(pa.int32()))
    shares = pa.array([[share for _, share in own] for own in lists], pa.list_(pa.float32()))
    write_table(path / "followers.arrow", pa.table({"followers": rows, "shares": shares}))
    content = (path / "followers.arrow").read_bytes()
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"]["followers.arrow"] = {"size": len(content), "sha256": digest}
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("similar") / "tiny.shortlist"
    world = make_world(path, scorer=None)
    add_followers(path)
    with load(path) as engine:
        yield world, engine


def cosines(world, row):
    units = world.vectors.astype(np.float32).astype(float)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    return units @ units[row]


def best(scores, allowed, top_n):
    order = sorted(allowed, key=lambda row: (-scores[row], row))[:top_n]
    return order, [scores[row] for row in order]


def check(found, i, world, scores, allowed):
    rows, expected = best(scores, allowed, found.item_ids.shape[1])
    n = len(rows)
    assert found.counts[i] == n
    assert found.item_ids[i, :n].tolist() == world.item_ids[rows].tolist()
    assert np.allclose(found.scores[i, :n], expected, atol=1e-6)


def test_vectors_give_the_nearest_items(made):
    world, engine = made
    rows = [3, 17, 0]
    found = engine.similar(world.item_ids[rows], 6)
    for i, row in enumerate(rows):
        check(found, i, world, cosines(world, row), set(range(N_ITEMS)) - {row})
    assert found.source.tolist() == ["item"] * 3
    assert found.n_known.tolist() == [1, 1, 1]
    assert found.titles[0, 0] == world.items.column("title")[int(found.indices[0, 0])].as_py()


def test_followers_come_by_their_shares(made):
    world, engine = made
    rows = [2, 3, 8]
    found = engine.similar(world.item_ids[rows], 4, by="followers")
    table = followers_of(N_ITEMS)
    for i, row in enumerate(rows):
        shares = dict(table.get(row, []))
        check(found, i, world, shares, set(shares) - {row})


def test_a_mix_is_half_of_each_over_all_items(made):
    world, engine = made
    table = followers_of(N_ITEMS)
    for top_n in (1, 3, 39):
        found = engine.similar(world.item_ids[:12], top_n, by="mix")
        for row in range(12):
            share = np.zeros(N_ITEMS)
            for follower, own in table.get(row, []):
                share[follower] = own
            scores = 0.5 * cosines(world, row) + 0.5 * share
            check(found, row, world, scores, set(range(N_ITEMS)) - {row})


@pytest.mark.parametrize("by", ["vectors", "followers", "mix"])
def test_filters_hold(made, by):
    world, engine = made
    ids, n_events = world.item_ids, world.items.column("n_events").to_pylist()
    shares = followers_of(N_ITEMS)
    rows, few = [2, 8], ids[[3, 8, 20, 26, 30]].tolist()
    some = {row for row in range(N_ITEMS) if n_events[row] > 8}
    cases = [
        ({"where": "n_events > 8"}, [some, some]),
        ({"where": ["n_events > 8", None]}, [some, set(range(N_ITEMS))]),
        ({"exclude": few}, [set(range(N_ITEMS)) - {3, 8, 20, 26, 30}] * 2),
        ({"exclude": [few, []]}, [set(range(N_ITEMS)) - {3, 8, 20, 26, 30}, set(range(N_ITEMS))]),
        ({"allow": few}, [{3, 8, 20, 26, 30}] * 2),
        ({"allow": [few, few[:2]]}, [{3, 8, 20, 26, 30}, {3, 8}]),
    ]
    for options, allowed in cases:
        found = engine.similar(ids[rows], 5, by=by, **options)
        for i, row in enumerate(rows):
            share = dict(shares.get(row, []))
            scores = {
                "vectors": cosines(world, row),
                "followers": share,
                "mix": [0.5 * c + 0.5 * share.get(k, 0) for k, c in enumerate(cosines(world, row))],
            }[by]
            left = allowed[i] - {row}
            check(found, i, world, scores, left & set(share) if by == "followers" else left)


def test_items_that_changed_are_seen(tmp_path):
    path = tmp_path / "tiny.shortlist"
    world = make_world(path, scorer=None)
    add_followers(path)
    ids = world.item_ids.tolist()
    with load(path) as engine:
        engine.remove_items([ids[3]])
        engine.upsert_items([{"item_id": 9_000, "genres": ["war"], "year": 1990.0}])
        assert 9_000 in engine.similar([ids[1]], 40).item_ids
        assert ids[3] not in engine.similar([ids[2]], 40, by="mix").item_ids
        assert engine.similar([9_000], 3, by="followers").counts.tolist() == [0]
        with pytest.raises(DataError, match="item_ids: entry 1 is 121, which is no item"):
            engine.similar([9_000, ids[3]])
        engine.upsert_items([{"item_id": 9_001}])
        with pytest.raises(DataError, match="entry 0 is 9001, an item without a vector"):
            engine.similar([9_001])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"item_ids": 100}, TypeError, "item_ids"),
        ({"item_ids": [3]}, DataError, "item_ids: entry 0 is 3, which is no item of the catalogue"),
        ({"item_ids": ["a"]}, TypeError, "item_ids"),
        ({"by": "cosine"}, ValueError, "by: got 'cosine', expected one of vectors, followers, mix"),
        ({"top_n": 0}, ValueError, "top_n: got 0"),
        ({"where": "yar > 1"}, DataError, "where: 'yar > 1': expected a column"),
    ],
)
def test_bad_input_of_similar_is_named(made, options, error, message):
    with pytest.raises(error) as raised:
        made[1].similar(**{"item_ids": [100], **options})
    assert message in str(raised.value)


def test_a_bundle_without_followers_says_so(engine):
    for by in ("followers", "mix"):
        with pytest.raises(ShortlistError, match=r"has no followers\.arrow"):
            engine.similar([100], by=by)


HISTORIES = [[0, 4, 9], [12, 13], [30, 2, 7, 8]]


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("how", ["mean", "least_misery"])
def test_a_group_gets_the_best_of_all_items(tmp_path, metric, how):
    path = tmp_path / "tiny.shortlist"
    world = make_world(path, scorer=None, metric=metric, user_features=False)
    ids = world.item_ids
    requests = [{"history": ids[rows].tolist()} for rows in HISTORIES]
    with load(path) as engine:
        scores = engine.score(requests, [ids.tolist()] * 3).astype(float)
        merged = scores.mean(axis=0) if how == "mean" else scores.min(axis=0)
        seen = {row for rows in HISTORIES for row in rows}
        for top_n in (1, 5, 39):
            found = engine.recommend_group(requests, top_n, how)
            check(found, 0, world, merged, set(range(N_ITEMS)) - seen)
            assert found.source.tolist() == ["history"]
        found = engine.recommend_group(requests, 4, how, exclude_seen=False)
        check(found, 0, world, merged, set(range(N_ITEMS)))
        exclude = [ids[20:24].tolist(), [], ids[24:26].tolist()]
        found = engine.recommend_group(requests, 6, how, where="n_events > 3", exclude=exclude)
        n_events = world.items.column("n_events").to_pylist()
        left = {r for r in range(N_ITEMS) if n_events[r] > 3} - seen - set(range(20, 26))
        check(found, 0, world, merged, left)
        for filters, allowed in (
            ({"exclude": ids[20:24].tolist()}, set(range(N_ITEMS)) - set(range(20, 24))),
            ({"allow": ids[20:28].tolist()}, set(range(20, 28))),
        ):  # ids for all, where nothing is left out as seen
            found = engine.recommend_group(requests, 4, how, exclude_seen=False, **filters)
            check(found, 0, world, merged, allowed)


def test_the_threshold_reads_no_more_than_it_must(tmp_path, monkeypatch):
    from shortlist._serving import groups

    monkeypatch.setattr(groups, "_FIRST_DEPTH", 2)
    path = tmp_path / "tiny.shortlist"
    world = make_world(path, scorer=None, user_features=False)
    ids = world.item_ids
    rng = np.random.default_rng(0)
    with load(path) as engine:
        for how in ("mean", "least_misery"):
            for _ in range(40):
                rows = [rng.choice(N_ITEMS, 3, replace=False) for _ in range(3)]
                requests = [{"history": ids[own].tolist()} for own in rows]
                scores = engine.score(requests, [ids.tolist()] * 3).astype(float)
                merged = scores.mean(axis=0) if how == "mean" else scores.min(axis=0)
                found = engine.recommend_group(requests, 1, how)
                check(found, 0, world, merged, set(range(N_ITEMS)) - set(np.concatenate(rows)))


def test_members_of_whom_nothing_is_known_do_not_count(engine, world):
    known = {"history": world.item_ids[:3].tolist()}
    alone = engine.recommend_group([known], 5)
    both = engine.recommend_group([known, {}], 5)
    assert both.item_ids.tolist() == alone.item_ids.tolist()
    assert alone.item_ids.tolist() == engine.recommend([known], 5, stages=1).item_ids.tolist()
    nobody = engine.recommend_group([{}, {"user_id": 777}], 5)
    assert nobody.source.tolist() == ["popular"]
    assert nobody.item_ids.tolist() == engine.recommend([{}], 5).item_ids.tolist()
    stored = engine.recommend_group(user_ids=[5, 9], top_n=30)
    seen = {int(world.item_ids[row]) for user in (5, 9) for row in world.users[user]}
    assert not seen & set(stored.item_ids[0].tolist())
    assert stored.source.tolist() == ["stored history"]
    assert (stored.n_given.tolist(), stored.n_known.tolist()) == ([2], [2])


def test_bad_groups_are_named(engine):
    with pytest.raises(DataError, match="requests: got none, expected at least one member"):
        engine.recommend_group([])
    with pytest.raises(ValueError, match="how: got 'max', expected one of mean, least_misery"):
        engine.recommend_group([{}], how="max")


def test_one_state_of_the_items_answers_a_call(tmp_path, monkeypatch):
    path = tmp_path / "tiny.shortlist"
    world = make_world(path, scorer=None, user_features=False)
    ids = world.item_ids.tolist()
    with load(path) as engine:
        read, answer = similar.read_item_ids, LoadedBundle.answer
        before = engine.similar([ids[0]], 3)

        def read_then_remove(*args):
            rows = read(*args)
            engine.remove_items([ids[0]])
            return rows

        monkeypatch.setattr(similar, "read_item_ids", read_then_remove)
        assert engine.similar([ids[0]], 3).item_ids.tolist() == before.item_ids.tolist()
        group = engine.recommend_group([{"history": ids[1:4]}, {"history": ids[4:7]}], 30)

        def upsert_then_answer(self, *args, **kwargs):
            engine.upsert_items([{"item_id": 5_000 + len(engine.index), "genres": ["war"]}])
            return answer(self, *args, **kwargs)

        monkeypatch.setattr(LoadedBundle, "answer", upsert_then_answer)
        again = engine.recommend_group([{"history": ids[1:4]}, {"history": ids[4:7]}], 30)
        assert again.item_ids.tolist() == group.item_ids.tolist()


def test_the_command_finds_what_is_alike(made, capsys):
    world, engine = made
    argv = ["recommend", str(world.path), "--like", "100", "107", "--top-n", "3", "--json"]
    assert main([*argv, "--by", "mix"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = engine.similar([100, 107], 3, by="mix").item_ids.tolist()
    assert [[item["item_id"] for item in one["items"]] for one in told] == found
    assert main([*argv, "--explain"]) == 1
    assert "--like: got --explain or --stages beside it" in capsys.readouterr().err
