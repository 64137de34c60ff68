"""Off-policy estimates: by hand in small cases, and against the true value in simulations."""

import dataclasses
import itertools
import json

import numpy as np
import pyarrow.compute as pc
import pytest

import shortlist
from shortlist import DataError, Epsilon, FeedbackLog, Softmax
from shortlist.cli import main
from shortlist.feedback.acts import Acts, with_acts
from shortlist.off_policy import doubly_robust, estimate, ips, snips
from shortlist.off_policy.lists import _History

NOON = 1_714_564_800


def test_one_place_by_hand():
    """Two actions, logged with 0.8 and 0.2, wanted with 0.5 each; the model says 0.6 and 0.1."""
    weights = np.array([[0.5 / 0.8]] * 4 + [[0.5 / 0.2]])
    rewards = np.array([[1.0], [0.0], [1.0], [1.0], [0.0]])
    predicted = np.array([[0.6]] * 4 + [[0.1]])
    expected = np.full((5, 1), 0.35)
    assert ips(rewards, weights).value == pytest.approx(3 * 0.625 / 5)
    assert snips(rewards, weights).value == pytest.approx(3 * 0.625 / (4 * 0.625 + 2.5))
    # 0.35 + (3 · 0.625 · 0.4 − 0.625 · 0.6 − 2.5 · 0.1) / 5
    found = doubly_robust(rewards, weights, predicted, expected)
    assert found.value == pytest.approx(0.35 + (0.75 - 0.375 - 0.25) / 5)


def test_two_places_by_hand():
    weights = np.array([[2.0, 1.0], [0.5, 0.0], [0.5, 1.0]])
    rewards = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    predicted, expected = np.full((3, 2), 0.5), np.full((3, 2), 0.25)
    assert ips(rewards, weights).value == pytest.approx((3 + 0 + 0.5) / 3)
    assert snips(rewards, weights).value == pytest.approx(2.5 / 3 + 1 / 2)
    by_list = [
        0.25 + 2 * 0.5 + 2 * 0.25 + 1 * 0.5,
        0.25 - 0.5 * 0.5 + 0.5 * 0.25 + 0,
        0.25 + 0.5 * 0.5 + 0.5 * 0.25 - 1 * 0.5,
    ]
    found = doubly_robust(rewards, weights, predicted, expected)
    assert found.value == pytest.approx(np.mean(by_list))


def test_intervals_by_hand():
    values = np.array([0.0, 1.0, 1.0, 2.0])
    found = ips(values[:, None], np.ones((4, 1)))
    error = 1.959964 * np.sqrt(2 / 3) / 2
    assert (found.low, found.high) == pytest.approx((1 - error, 1 + error), rel=1e-6)
    # Two users, each twice: sums of deviations −1 + 0 and 0 + 1; two groups.
    found = ips(values[:, None], np.ones((4, 1)), np.array([0, 0, 1, 1]))
    assert found.high - 1 == pytest.approx(1.959964 * np.sqrt(2 * 2) / 4, rel=1e-6)


def test_one_user_says_nothing_about_others():
    rewards, ones, same = np.array([[0.0], [1.0], [1.0]]), np.ones((3, 1)), np.zeros(3, np.int64)
    half = np.full((3, 1), 0.5)
    for found in (
        ips(rewards, ones, same),
        snips(rewards, ones, same),
        doubly_robust(rewards, ones, half, half, same),
        ips(rewards[:1], ones[:1]),
    ):
        assert (found.low, found.high) == (-np.inf, np.inf)
        assert np.isfinite(found.value)


def test_equal_policies_earn_what_was_earned():
    random = np.random.default_rng(0)
    rewards, ones = random.integers(0, 2, (50, 3)).astype(float), np.ones((50, 3))
    predicted = random.random((50, 3))
    assert ips(rewards, ones).value == pytest.approx(rewards.sum(1).mean())
    assert snips(rewards, ones).value == pytest.approx(rewards.sum(1).mean())
    found = doubly_robust(rewards, ones, predicted, predicted)
    assert found.value == pytest.approx(rewards.sum(1).mean())


@pytest.mark.parametrize("new", [Epsilon(0.2), Softmax(0.6)])
def test_intervals_hold_the_true_value_as_often_as_they_say(new):
    """Rewards depend on the item, the place and the item above; the model is quite wrong."""
    random = np.random.default_rng(1)
    old, m, k, n = Softmax(1.0, seed=2), 6, 2, 2_000
    old_scores = np.sort(random.normal(size=(1, m)).astype(np.float32))[:, ::-1].copy()
    new_scores = old_scores
    rate = random.random((m, m)) * 0.5  # of (item, item above)
    lists = np.array(list(itertools.permutations(range(m), k)))

    def earned(lists):
        return np.stack([rate[lists[:, 0], lists[:, 0]], rate[lists[:, 1], lists[:, 0]]], axis=1)

    chances = new.propensities(np.repeat(new_scores, len(lists), 0), lists).prod(axis=1)
    truth = float((chances * earned(lists).sum(axis=1)).sum())
    values = np.repeat(random.random((k, 1, m)), n, axis=1)
    inside, means = np.zeros(3), np.zeros(3)
    for _ in range(100):
        shown, logged = old.choose(np.repeat(old_scores, n, 0), k)
        rewards = (random.random((n, k)) < earned(shown)).astype(float)
        wanted, expected = new.shares(np.repeat(new_scores, n, 0), shown, values)
        weights = np.cumprod(wanted / logged, axis=1)
        predicted = np.stack([values[i, 0][shown[:, i]] for i in range(k)], axis=1)
        found = (
            ips(rewards, weights),
            snips(rewards, weights),
            doubly_robust(rewards, weights, predicted, expected),
        )
        inside += [e.low <= truth <= e.high for e in found]
        means += [e.value / 100 for e in found]
    assert (inside >= 88).all()  # of 95 expected: fewer once in 500 runs
    np.testing.assert_allclose(means, truth, rtol=0.03)


N_USERS = 3_000
RATES = np.array([0.5, 0.3])


class Shop:
    """Users with two views each, lists shown to them once, and clicks by known chances."""

    def __init__(self, folder, make_tiny_bundle, explore, stages):
        self.old = make_tiny_bundle(folder / "old.shortlist")
        self.new = make_tiny_bundle(folder / "new.shortlist", sign=-1)
        ids = self.old.item_ids
        random = np.random.default_rng(5)
        self.appeal = dict(zip(ids.tolist(), random.random(len(ids)), strict=True))
        self.users = (1_000 + np.arange(N_USERS)).tolist()
        self.before = random.choice(ids, (N_USERS, 2))
        self.log = FeedbackLog(folder / "feedback.log")
        self.log.append_many(
            {
                "user_id": np.repeat(self.users, 2),
                "item_id": self.before.ravel(),
                "kind": ["view"] * (2 * N_USERS),
                "timestamp": NOON - 100 + np.arange(2 * N_USERS) % 2,
            }
        )
        with shortlist.load(self.old.path) as engine:
            shown = engine.recommend(
                user_ids=self.users,
                top_n=4,
                stages=stages,
                feedback=self.log,
                explore=explore,
                record=True,
                now=NOON,
            )
        clicks = [
            {"user_id": user, "item_id": item, "kind": "click", "timestamp": NOON + 10}
            for user, items in zip(self.users, shown.item_ids.tolist(), strict=True)
            for place, item in enumerate(items[:2])
            if random.random() < RATES[place] * self.appeal[item]
        ]
        self.log.append_many(clicks)

    def true_value(self, path, explore, n_places):
        """Mean clicks a list under a policy, over all lists it may draw."""
        pairs = zip(self.users, self.before.tolist(), strict=True)
        requests = [{"user_id": user, "history": history} for user, history in pairs]
        m = explore.n_candidates
        with shortlist.load(path) as engine:
            found = engine.recommend(requests, top_n=m)
        lists, total = np.array(list(itertools.permutations(range(m), n_places))), 0.0
        for ids, scores in zip(found.item_ids.tolist(), found.scores, strict=True):
            chances = explore.propensities(np.repeat(scores[None], len(lists), 0), lists)
            clicks = np.array([self.appeal[item] for item in ids])[lists] @ RATES[:n_places]
            total += float(chances.prod(axis=1) @ clicks)
        return total / len(self.users)


@pytest.fixture(scope="module")
def shop(tmp_path_factory, make_tiny_bundle):
    """Lists drawn from eight candidates."""
    folder, explore = tmp_path_factory.mktemp("narrow"), Softmax(1.0, n_candidates=8, seed=3)
    made = Shop(folder, make_tiny_bundle, explore, 2)
    with made.log:
        yield made


@pytest.fixture(scope="module")
def wide_shop(tmp_path_factory, make_tiny_bundle):
    """Lists drawn from the whole catalogue: every other bundle's items were shown too."""
    folder, explore = tmp_path_factory.mktemp("wide"), Softmax(2.0, n_candidates=40, seed=4)
    made = Shop(folder, make_tiny_bundle, explore, 1)
    with made.log:
        yield made


@pytest.mark.parametrize("explore", [Epsilon(0.3, n_candidates=8), Softmax(0.7, n_candidates=8)])
def test_a_bundle_is_estimated_from_the_lists_of_another(wide_shop, explore):
    truth = wide_shop.true_value(wide_shop.new.path, explore, 1)
    with shortlist.load(wide_shop.new.path) as engine:
        found = estimate(engine, wide_shop.log, explore=explore, top_n=1)
    assert (found.n_lists, found.n_users) == (N_USERS, N_USERS)
    for name in ("ips", "snips", "doubly_robust"):
        value, low, high = getattr(found, name)
        assert low <= truth <= high, name
        assert value == pytest.approx(truth, rel=0.25), name


@pytest.mark.parametrize("explore", [Epsilon(0.3, n_candidates=8), Softmax(0.5, n_candidates=8)])
def test_other_ways_to_run_a_bundle_are_estimated_within_their_interval(shop, explore):
    truth = shop.true_value(shop.old.path, explore, 2)
    with shortlist.load(shop.old.path) as engine:
        found = estimate(engine, shop.log, explore=explore, top_n=2)
    for name in ("ips", "snips", "doubly_robust"):
        value, low, high = getattr(found, name)
        assert low <= truth <= high, name
        assert value == pytest.approx(truth, rel=0.1), name
    wide, narrow = found.ips, found.doubly_robust
    assert narrow.high - narrow.low < wide.high - wide.low
    assert found.difference.value == pytest.approx(found.doubly_robust.value - found.logged.value)


def test_the_logged_policy_earns_what_was_earned(shop):
    with shortlist.load(shop.old.path) as engine:
        found = estimate(engine, shop.log, explore=Softmax(1.0, n_candidates=8), top_n=2)
    assert found.ips.value == pytest.approx(found.logged.value)
    assert found.effective_lists == pytest.approx([N_USERS] * 2)
    assert found.doubly_robust.value == pytest.approx(found.logged.value, rel=0.02)


def test_the_command_prints_what_the_function_finds(shop, capsys):
    call = ["evaluate", str(shop.old.path), "--off-policy", str(shop.log.path), "--top-n", "2"]
    flags = ["--epsilon", "0.3", "--candidates", "8", "--reward", "click"]
    assert main([*call, *flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    with shortlist.load(shop.old.path) as engine:
        explore = Epsilon(0.3, n_candidates=8)
        expected = estimate(engine, shop.log, explore=explore, top_n=2, kinds=["click"])
    assert found == expected.to_dict()
    assert main([*call, "--temperature", "1"]) == 0
    out = capsys.readouterr().out
    assert "3,000 lists of 3,000 users, first 2 places" in out
    assert "doubly robust − logged" in out


def test_the_command_wants_data_or_a_log(world, tmp_path, capsys):
    path = str(world.path)
    assert main(["evaluate", path]) == 1
    assert "--data, --off-policy: got neither" in capsys.readouterr().err
    assert main(["evaluate", path, "--data", "x", "--off-policy", "y"]) == 1
    assert "--data, --off-policy: got both" in capsys.readouterr().err
    assert main(["evaluate", path, "--off-policy", str(tmp_path / "none")]) == 1
    assert "none, which is no file" in capsys.readouterr().err


def show(log, user, items, time, **more):
    for rank, item in enumerate(items, 1):
        event = {"user_id": user, "item_id": item, "kind": "impression", "timestamp": time}
        log.append_many([{**event, "rank": rank, "propensity": 0.5, **more}])


def test_rewards_go_to_the_newest_impression_within_the_time(tmp_path, engine, world):
    a, b, c = world.item_ids[[10, 11, 12]].tolist()
    with FeedbackLog(tmp_path / "log") as log:
        show(log, 1, [a, b], NOON)
        show(log, 1, [c, a], NOON + 50)
        click = {"user_id": 1, "kind": "click"}
        log.append(**click, item_id=a, timestamp=NOON + 60)  # of the second list
        log.append(**click, item_id=b, timestamp=NOON + 5_000)  # too late
        log.append(**click | {"kind": "skip"}, item_id=c, timestamp=NOON + 60)
        log.append(**click | {"user_id": 2}, item_id=b, timestamp=NOON + 60)
        show(log, 2, [b], NOON + 70)  # clicked before
        found = estimate(engine, log, explore=Softmax(1.0), top_n=2, within=1_000)
        assert found.logged.value == pytest.approx(1 / 3)
        assert (found.n_lists, found.n_users) == (3, 2)
        found = estimate(engine, log, explore=Softmax(1.0), top_n=2, kinds=["skip"])
        assert found.logged.value == pytest.approx(1 / 3)
        found = estimate(engine, log, explore=Softmax(1.0), top_n=1)
        assert found.logged.value == pytest.approx(0)


def test_events_that_belong_to_no_list_are_counted_and_shown(tmp_path, engine, world, capsys):
    a, b = world.item_ids[[10, 11]].tolist()
    with FeedbackLog(tmp_path / "log") as log:
        click = {"user_id": 1, "kind": "click"}
        log.append(**click, item_id=a, timestamp=NOON)  # before any list
        show(log, 1, [a], NOON)
        log.append(**click, item_id=b, timestamp=NOON + 1)  # was not shown
        log.append(**click, item_id=a, timestamp=NOON + 2)
        log.append(**click, item_id=a, timestamp=NOON + 90_000)  # too late
        log.append(**click | {"kind": "skip"}, item_id=b, timestamp=NOON + 1)  # no reward
        found = estimate(engine, log, top_n=1)
        assert (found.logged.value, found.n_unmatched) == (1, 3)
        assert estimate(engine, log, top_n=1, kinds=["skip"]).n_unmatched == 1
    assert "3 events that would be a reward belong to no list, and 0 impressions" in str(found)
    call = ["evaluate", str(world.path), "--off-policy", str(tmp_path / "log"), "--top-n", "1"]
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_unmatched"] == 3


@pytest.mark.parametrize(("behind", "earned"), [(0, 1), (1, 1), (10, 1), (11, 0)])
def test_a_clock_that_is_some_seconds_behind_is_put_up_with(
    tmp_path, engine, world, capsys, behind, earned
):
    a = world.item_ids[10].item()
    with FeedbackLog(tmp_path / "log") as log:
        show(log, 1, [a], NOON)
        log.append(user_id=1, item_id=a, kind="click", timestamp=NOON - behind)
        found = estimate(engine, log, top_n=1)
        assert (found.logged.value, found.n_unmatched) == (earned, 1 - earned)
        assert estimate(engine, log, top_n=1, clock_tolerance=11).n_unmatched == 0
    call = ["evaluate", str(world.path), "--off-policy", str(tmp_path / "log"), "--top-n", "1"]
    assert main([*call, "--json", "--clock-tolerance", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["n_unmatched"] == (behind > 0)


def test_impressions_that_belong_to_no_list_are_counted_and_shown(tmp_path, engine, world):
    a, b = world.item_ids[[10, 11]].tolist()
    with FeedbackLog(tmp_path / "log") as log:
        show(log, 1, [a], NOON)
        row = {"user_id": 1, "item_id": b, "kind": "impression", "timestamp": NOON}
        log.append_many([row, row | {"rank": 3}])  # a host that writes impressions by itself
        found = estimate(engine, log, top_n=1)
    assert (found.n_lists, found.n_stray_impressions) == (1, 2)
    assert found.to_dict()["n_stray_impressions"] == 2
    assert "and 2 impressions" in str(found)


def test_an_event_that_arrives_late_goes_to_the_impression_of_its_time(tmp_path, engine, world):
    a, b = world.item_ids[[10, 11]].tolist()
    with FeedbackLog(tmp_path / "log") as log:
        show(log, 1, [a], NOON)
        show(log, 1, [b, a], NOON + 500)
        log.append(user_id=1, item_id=a, kind="click", timestamp=NOON + 60)
        found = estimate(engine, log, top_n=1)
    assert (found.logged.value, found.n_unmatched) == (0.5, 0)  # the first place of the first list


def test_lists_without_propensities_are_counted_and_left_out(tmp_path, engine, world):
    with FeedbackLog(tmp_path / "log") as log:
        with pytest.raises(DataError, match=r"log: got 0 lists with propensities .* 0 without"):
            estimate(engine, log)
        engine.recommend(user_ids=[1, 2], feedback=log, record=True)
        with pytest.raises(DataError, match="and 2 without propensities, expected newer ones"):
            estimate(engine, log)
        engine.recommend(user_ids=[1], feedback=log, record=True, explore=Epsilon(0.5, seed=1))
        found = estimate(engine, log, explore=Epsilon(0.5), top_n=10)
        assert (found.n_lists, found.n_unknown_propensity) == (1, 2)
        assert found.ips.value == 0


@pytest.mark.parametrize("more", ["history", "level", "exclude_seen", "where", "wheres"])
def test_lists_of_requests_that_cannot_be_asked_again_are_left_out(tmp_path, engine, world, more):
    """The log has the user id alone: asked so again, such a request is another one."""
    request, options, explore = {"user_id": 1}, {}, Softmax(1.0, n_candidates=40, seed=1)
    late = pc.field("year") > 1_990
    match more:
        case "history":
            request["history"] = world.item_ids[[3, 4]].tolist()
        case "level":
            request["level"] = 2
        case "exclude_seen":
            options["exclude_seen"] = False
        case "where":
            options["where"] = late
        case "wheres":
            options["where"] = [late, None]
    with FeedbackLog(tmp_path / "log") as log:
        shown = engine.recommend(
            [request, {"user_id": 5}],
            top_n=2,
            feedback=log,
            explore=explore,
            record=True,
            **options,
        )
        assert (shown.propensities > 0).all()
        kept = [] if more in ("exclude_seen", "where") else shown.propensities[1].tolist()
        told = log.read().column("propensity").to_pylist()
        assert told == [None] * (4 - len(kept)) + kept
        engine.recommend(user_ids=[9], top_n=2, feedback=log, explore=explore, record=True)
        found = estimate(engine, log, explore=explore, top_n=2)
    n_known = 1 + len(kept) // 2
    assert (found.n_lists, found.n_unknown_propensity) == (n_known, 3 - n_known)
    assert f"left out: {3 - n_known} without propensities" in str(found)
    assert found.effective_lists == pytest.approx([n_known] * 2)


def test_what_was_done_later_is_not_known_when_a_list_is_asked_again(tmp_path, engine, world):
    """User 9's stored history has what the log says was clicked after the list was shown."""
    later = world.item_ids[5].item()
    others = world.item_ids[[3, 4, 6]].tolist()
    with FeedbackLog(tmp_path / "log") as log:
        show(log, 9, [later], NOON)
        log.append(user_id=9, item_id=later, kind="click", timestamp=NOON + 1)
        found = estimate(engine, log, explore=Softmax(1.0, n_candidates=40), top_n=1)
        wanted = engine.recommend([{"history": others, "level": 2}], top_n=12)
        places = np.array([wanted.item_ids[0].tolist().index(later) if later in
                           wanted.item_ids[0].tolist() else -1])  # fmt: skip
        share = Softmax(1.0).propensities(wanted.scores, places[:, None])[0, 0]
    assert found.ips.value == pytest.approx(share / 0.5)


def test_lists_older_than_the_training_data_are_left_out(tmp_path, engine, monkeypatch):
    training = {"data": {"known_until": NOON}}
    manifest = dataclasses.replace(engine.bundle.manifest, training=training)
    monkeypatch.setattr(engine.bundle, "manifest", manifest)
    with FeedbackLog(tmp_path / "log") as log:
        for time in (NOON, NOON + 1):
            show(log, 1, [100, 107], time)
        found = estimate(engine, log, top_n=2)
        assert (found.n_lists, found.n_before_training) == (1, 1)


def test_a_log_of_one_user_is_printed_without_an_interval(tmp_path, engine, world, capsys):
    with FeedbackLog(tmp_path / "log") as log:
        show(log, 1, [100, 107], NOON)
        log.append(user_id=1, item_id=100, kind="click", timestamp=NOON + 1)
        found = estimate(engine, log, top_n=2)
    assert (found.logged.value, found.logged.low, found.logged.high) == (1, -np.inf, np.inf)
    assert "-inf to inf" in str(found)
    call = ["evaluate", str(world.path), "--off-policy", str(tmp_path / "log"), "--top-n", "2"]
    assert main([*call, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["logged"]
    assert told == {"value": 1.0, "low": None, "high": None}


@pytest.mark.parametrize("kind", ["click", "impression"])
def test_a_log_of_other_ids_is_refused_before_its_lists_are_read(tmp_path, engine, kind):
    with FeedbackLog(tmp_path / "log") as log:
        log.append(user_id="a", item_id="b", kind=kind, timestamp=NOON)
        with pytest.raises(DataError, match="feedback: its user_id is string, but this bundle's"):
            estimate(engine, log)


def test_a_history_is_what_the_log_had_in_time_order():
    """The event of sequence 3 is older than those before it."""
    acts = [(1, 50, "a", "view", None), (3, 10, "b", "skip", None), (5, 50, "c", "view", 2.0)]
    history = _History(acts)
    assert history.before(1) is None
    assert history.before(3) == Acts(["a"], ["view"], [50], [None])
    assert history.before(4) == Acts(["b", "a"], ["skip", "view"], [10, 50], [None, None])
    assert history.before(6).item_ids == ["b", "a", "c"]


def test_what_a_user_did_is_gathered_once_for_all_lists(tmp_path, engine, world, monkeypatch):
    """Each list used to sort the user's events, and to collect their items, anew."""
    given = []

    def spy(*arguments):
        given.extend(arguments[-1])
        return with_acts(*arguments)

    monkeypatch.setattr("shortlist.off_policy.lists.with_acts", spy)
    a, b = world.item_ids[[10, 11]].tolist()
    with FeedbackLog(tmp_path / "log") as log:
        for time in range(NOON, NOON + 20):
            show(log, 1, [a], time)
            log.append(user_id=1, item_id=b, kind="click", timestamp=time)
        assert estimate(engine, log, top_n=1).n_lists == 20
    assert given == [{b}] * 20
    assert len({id(items) for items in given}) == 1
