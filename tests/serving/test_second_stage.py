"""Two stages: the nearest candidates, then the scorer's order; 10^5 requests in one call."""

import json
import subprocess
import sys

import numpy as np
import pytest
from worlds import write_graphs_for_hosts

from shortlist.errors import BundleError, ShortlistError
from shortlist.loading import load

N_CANDIDATES, LAST = 12, 4  # as in the tiny bundle's manifest


def by_hand(first, history_rows, top_n):
    """The tiny scorer: code + (sum of the last codes) · similarity, over the candidates."""
    total = sum(row + 1 for row in history_rows[-LAST:])
    rows, similarity = first.indices[0], first.scores[0]
    scores = (rows + 1) + total * similarity
    order = np.lexsort((rows, -scores))[:top_n]
    return rows[order], scores[order]


def test_the_scorer_orders_the_nearest_candidates(engine, world):
    rows = [9, 3, 8, 1, 2, 30]
    request = {"history": [world.item_ids[rows].tolist()]}
    first = engine.recommend(request, top_n=N_CANDIDATES, stages=1)
    answer = engine.recommend(request, top_n=5)
    expected, scores = by_hand(first, rows, 5)
    assert answer.indices[0].tolist() == expected.tolist()
    assert answer.item_ids[0].tolist() == world.item_ids[expected].tolist()
    np.testing.assert_allclose(answer.scores[0], scores, rtol=1e-5)
    assert (answer.stages.tolist(), first.stages.tolist()) == ([2], [1])
    assert answer.to_dicts()[0]["stages"] == 2
    assert engine.default_stages == 2


def test_more_places_than_candidates_widen_the_first_stage(engine, world):
    request = {"history": [world.item_ids[[3, 8]].tolist()]}
    first = engine.recommend(request, top_n=30, stages=1)
    answer = engine.recommend(request, top_n=30, stages=2)
    assert answer.counts.tolist() == [30]
    assert set(answer.indices[0].tolist()) == set(first.indices[0].tolist())
    everything = engine.recommend(request, top_n=60, stages=2)
    assert everything.counts.tolist() == [38]
    assert (everything.indices[0, 38:] == -1).all()
    assert np.isneginf(everything.scores[0, 38:]).all()


def test_requests_without_a_history_have_one_stage_or_the_popular_list(engine, world):
    requests = [{"history": [int(world.item_ids[3])]}, {"user_id": 5}, {"city": "Köln"}, {}]
    answer = engine.recommend(requests, stages=2)
    assert answer.stages.tolist() == [2, 2, 1, 0]
    assert engine.recommend(requests, stages=1).stages.tolist() == [1, 1, 1, 0]


def test_given_items_are_scored_as_the_second_stage_scores_them(engine, world):
    request = {"history": [world.item_ids[[3, 8]].tolist()]}
    answer = engine.recommend(request, top_n=6)
    again = engine.score(request, answer.item_ids)
    np.testing.assert_allclose(again, answer.scores, rtol=1e-5)
    two = {"history": [*request["history"], world.item_ids[[2]].tolist()]}
    scores = engine.score(two, [[world.item_ids[5], -1], [-1, -1]])
    assert np.isfinite(scores[0, 0])
    assert np.isneginf(scores[[0, 1, 1], [1, 0, 1]]).all()
    assert engine.score({"history": []}, np.empty((0, 3), np.int64)).shape == (0, 3)
    with pytest.raises(ValueError, match=r"item_ids: row 1, entry 0 is 3, which is no item"):
        engine.score(two, [[100], [3]])
    with pytest.raises(ValueError, match=r"item_ids: got shape \(1, 1\), expected \(2, n\)"):
        engine.score(two, [[100]])


def test_given_items_are_scored_by_the_first_stage_where_it_is_asked(engine, world):
    requests = [{"history": world.item_ids[[3, 8]].tolist()}, {"user_id": 5}, {"city": "Köln"}, {}]
    answer = engine.recommend(requests, top_n=6, stages=1)
    scores = engine.score(requests, answer.item_ids, stages=1)
    np.testing.assert_array_equal(scores[:3], answer.scores[:3])
    users = engine.encode_users(requests)[3:]
    with np.errstate(invalid="ignore"):
        cosines = (
            np.nan_to_num(users / np.linalg.norm(users)) @ engine.index.vectors(answer.indices[3]).T
        )
    np.testing.assert_allclose(scores[3:], cosines, atol=1e-6)


@pytest.mark.parametrize("stages", [0, 3, True, "2"])
def test_other_numbers_of_stages_are_refused(engine, stages):
    for call in (engine.recommend, lambda *r, **o: engine.score(*r, [[100]], **o)):
        with pytest.raises(ValueError, match=r"stages: got .*, expected 1, 2, or None"):
            call([{}], stages=stages)


def copy_without_scorer(world, tmp_path, change):
    import shutil

    from shortlist.bundle import BundleWriter

    out = tmp_path / "copy.shortlist"
    with BundleWriter(out) as writer:
        for file in world.path.iterdir():
            if file.name not in ("manifest.json", *change.get("drop", ())):
                shutil.copy(file, writer.directory)
        fields = json.loads((world.path / "manifest.json").read_text())
        for name in ("format", "format_version", "files"):
            fields.pop(name)
        fields |= change.get("fields", {})
        for name in change.get("forget", ()):
            fields.pop(name)
        if "drop" in change:  # or they would answer with the scorer that they hold
            write_graphs_for_hosts(writer.directory, fields)
        writer.write_manifest(fields)
        writer.commit()
    return out


def test_a_bundle_without_a_second_stage_says_why(world, tmp_path):
    told = {"is_kept": False, "n_candidates": 12, "history_length": 4, "n_users": 9,
            "ndcg_at_10_with": 0.1, "ndcg_at_10_without": 0.2}  # fmt: skip
    change = {"drop": ["scorer.onnx"], "fields": {"second_stage": told}}
    with load(copy_without_scorer(world, tmp_path, change)) as engine:
        assert engine.default_stages == 1
        assert engine.recommend({"history": [[100]]}).stages.tolist() == [1]
        with pytest.raises(ShortlistError, match=r"did not help.*0\.1000 with it, 0\.2000 without"):
            engine.recommend([{}], stages=2)
        with pytest.raises(ShortlistError, match="did not help"):
            engine.score({"history": [[100]]}, [[107]], stages=2)
        first = engine.recommend({"history": [[100]]}, top_n=5)
        np.testing.assert_array_equal(
            engine.score({"history": [[100]]}, first.item_ids), first.scores
        )


def test_a_bundle_trained_without_a_scorer_says_so(world, tmp_path):
    change = {"drop": ["scorer.onnx"], "forget": ["second_stage"]}
    with (
        load(copy_without_scorer(world, tmp_path, change)) as engine,
        pytest.raises(ShortlistError, match="trained without one; set enabled = true"),
    ):
        engine.recommend([{}], stages=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forget": ["second_stage"]}, "expected a field 'second_stage' beside scorer.onnx"),
        (
            {"fields": {"second_stage": {"n_candidates": 0, "history_length": 4}}},
            "n_candidates of the second stage >= 1, found 0",
        ),
        (
            {"fields": {"second_stage": {"n_candidates": 9, "history_length": 2**63}}},
            "history_length of the second stage <= 1048576, found 9223372036854775808",
        ),
        (
            {"fields": {"second_stage": {"n_candidates": 9, "history_length": "4"}}},
            "'history_length' to be a whole number",
        ),
    ],
)
def test_a_manifest_that_does_not_fit_its_scorer_is_refused(world, tmp_path, change, message):
    with pytest.raises(BundleError, match=message):
        load(copy_without_scorer(world, tmp_path, change))


MANY = """
import resource, sys
import numpy as np
from shortlist.loading import load
with load({path!r}) as engine:
    ids = np.asarray(engine.index.item_ids)
    rng = np.random.default_rng(0)
    def ask(n):
        rows = rng.integers(0, len(ids), (n, 8))
        return engine.recommend({{"history": list(ids[rows])}}, top_n=5)
    ask(2000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = ask(100_000)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(answer.item_ids.shape[0], int(answer.counts.min()), grown // 1024)
"""


def test_a_hundred_thousand_requests_are_one_call_in_bounded_memory(world):
    code = MANY.format(path=str(world.path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    n, least, grown = map(int, done.stdout.split())
    assert (n, least) == (100_000, 5)
    # The requests' own arrays (100,000 histories) and the answers, not activations of all at once:
    # those would be 100,000 · 12 candidates and more.
    assert grown < 120
