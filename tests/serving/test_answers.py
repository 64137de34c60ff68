"""What an answer tells: known ids, users, one request at a time, tables for other programs."""

import copy
import gc
import importlib
import pickle
import weakref

import numpy as np
import pyarrow as pa
import pytest

import shortlist
from shortlist import DataError, FeedbackLog, ShortlistError

REQUESTS = [
    {"history": [100, 3, 107]},
    {"user_id": 5},
    {"user_id": 777, "history": [1, 2]},
    {"user_id": 9, "history": []},
    {},
]


def test_known_ids_are_counted(engine):
    answer = engine.recommend(REQUESTS)
    assert answer.n_given.tolist() == [3, 1, 3, 1, 0]
    assert answer.n_known.tolist() == [2, 1, 0, 1, 0]
    assert answer.user_ids.tolist() == [None, 5, 777, 9, None]
    assert engine.recommend({"history": [[100]]}).user_ids.tolist() == [None]
    assert engine.recommend(user_ids=[]).n_known.tolist() == []
    told = [(one["n_given"], one["n_known"]) for one in answer.to_dicts()]
    assert told == [(3, 2), (1, 1), (3, 0), (1, 1), (0, 0)]
    assert [one.get("user_id") for one in answer.to_dicts()] == [None, 5, 777, 9, None]
    assert "user_id" not in answer.to_dicts()[0]


def test_known_text_ids_are_counted(text_engine):
    answer = text_engine.recommend(
        {"user_id": ["é5", "é", None], "history": [["é100", "b"], [], None]}
    )
    assert answer.n_given.tolist() == [3, 1, 0]
    assert answer.n_known.tolist() == [2, 0, 0]
    assert answer.user_ids.tolist() == ["é5", "é", None]


def test_what_was_known_is_what_the_bundle_came_with(make_tiny_bundle, tmp_path):
    world = make_tiny_bundle(tmp_path / "tiny.shortlist")
    request = [{"history": [100, 107, 900]}]
    with shortlist.load(world.path) as engine:
        engine.upsert_items({"item_id": [900], "genres": [["war"]]})
        engine.remove_items([107])
        answer = engine.recommend(request)
        with FeedbackLog(tmp_path / "log") as log:
            log.append(user_id=1, item_id=100, kind="view", timestamp=1)
            of_log = engine.recommend(user_ids=[1], feedback=log)
    assert answer.n_known.tolist() == [2]
    assert (of_log.source[0], of_log.n_known[0]) == ("history", 0)


def test_known_ids_are_told_after_a_swap_and_by_copies(world):
    with shortlist.load(world.path) as engine:
        asked = engine.recommend(REQUESTS)
        engine.swap(world.path)
    assert asked.n_known.tolist() == [2, 1, 0, 1, 0]
    for sent in (pickle.loads(pickle.dumps(asked)), copy.copy(asked), copy.deepcopy(asked)):
        assert sent.n_known.tolist() == asked.n_known.tolist()
        assert sent.n_given.tolist() == asked.n_given.tolist()
        assert sent.user_ids.tolist() == asked.user_ids.tolist()


def test_an_answer_that_knows_lets_go_of_its_bundle(world):
    engine = shortlist.load(world.path)
    core = weakref.ref(engine._switch.loaded.core)
    answer = engine.recommend(REQUESTS)
    engine.close()
    del engine
    gc.collect()
    assert core() is not None
    assert answer.n_known.sum() == 4
    gc.collect()
    assert core() is None


def test_known_ids_of_a_trial_are_those_of_the_version_that_answered(
    world, make_tiny_bundle, tmp_path
):
    other = make_tiny_bundle(tmp_path / "other.shortlist", with_users=False)
    with shortlist.load(world.path) as engine:
        engine.start_trial(other.path, share=0.5)
        answer = engine.recommend(user_ids=[5, 9, 12] * 20, keys=[*range(60)])
    assert set(answer.version.tolist()) == {1, 2}
    assert answer.n_known.tolist() == (answer.version == 1).astype(int).tolist()
    assert answer.user_ids.tolist() == [5, 9, 12] * 20


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([{}, {"user_id": 777}], r"'user_id' row 1 is 777, which is no user that this bundle sto"),
        ([{"history": [100]}, {"history": [107, 3]}], r"'history' row 1, entry 1 is 3, which is n"),
        ([{"user_id": 5, "history": [2]}], r"row 0, entry 0 is 2, .* with unknown='ignore'"),
    ],
)
def test_unknown_ids_are_an_error_where_it_is_asked(world, engine, requests, message):
    assert len(engine.recommend(requests)) == len(requests)
    with pytest.raises(DataError, match=message):
        engine.recommend(requests, unknown="error")
    with pytest.raises(ValueError, match=r"unknown: got 'warn', expected 'ignore' or 'error'"):
        engine.recommend(requests, unknown="warn")
    with shortlist.load(world.path) as tried:
        tried.start_trial(world.path, share=1.0)
        with pytest.raises(DataError, match=message):
            tried.recommend(requests, unknown="error")
        assert tried.report()["trial"]["n_errors"] == 0


def test_known_ids_pass(engine, text_engine):
    requests = [{"user_id": 5, "history": [100]}, {}, {"city": "Köln"}, {"history": []}]
    assert len(engine.recommend(requests, unknown="error")) == 4
    with pytest.raises(DataError, match=r"'history' row 0, entry 0 is 'A17', which is no item"):
        text_engine.recommend({"history": [["A17", "B3"]]}, unknown="error")


def test_one_request_is_an_answer_without_missing_places(engine):
    answer = engine.recommend(REQUESTS, top_n=39, explore=shortlist.Epsilon(0.1, seed=1))
    assert [one.request for one in answer] == [0, 1, 2, 3, 4]
    for row, one in enumerate(answer):
        count = answer.counts[row]
        assert len(one) == count
        for name in ("item_ids", "scores", "titles", "propensities"):
            np.testing.assert_array_equal(getattr(one, name), getattr(answer, name)[row, :count])
        for name in ("source", "stages", "version", "n_given", "n_known"):
            assert getattr(one, name) == getattr(answer, name)[row]
        assert one.user_id == answer.user_ids[row]
    assert answer[-1].request == 4
    assert answer[np.int64(1)].user_id == 5
    assert repr(answer[1]).startswith("request 1, user 5, from stored history: 37 items\n")
    assert pickle.loads(pickle.dumps(answer[1])).titles.tolist() == answer[1].titles.tolist()
    assert engine.recommend([{}])[0].propensities is None
    for wrong in (5, -6):
        with pytest.raises(IndexError, match=f"got request {wrong}, expected one of 5"):
            answer[wrong]
    with pytest.raises(TypeError):
        answer["0"]


def test_tables_have_one_row_for_each_item(engine):
    answer = engine.recommend(REQUESTS, top_n=39)
    table = answer.to_arrow()
    assert table.column_names == ["request", "user_id", "rank", "item_id", "score", "title",
                                  "source", "stages"]  # fmt: skip
    assert table.num_rows == answer.counts.sum()
    rows = table.to_pylist()
    for one in answer:
        own = [row for row in rows if row["request"] == one.request]
        assert [row["rank"] for row in own] == [*range(1, len(one) + 1)]
        assert [row["item_id"] for row in own] == one.item_ids.tolist()
        assert [row["title"] for row in own] == one.titles.tolist()
        assert np.float32([row["score"] for row in own]).tolist() == one.scores.tolist()
        assert {(row["user_id"], row["source"], row["stages"]) for row in own} == {
            (one.user_id, one.source, one.stages)
        }
    assert answer.to_pandas().shape == answer.to_polars().shape == table.shape
    assert answer.to_polars()["item_id"].to_list() == table.column("item_id").to_pylist()
    explored = engine.recommend([{}], explore=shortlist.Softmax(1.0, seed=1)).to_arrow()
    assert explored.column_names[-1] == "propensity"
    assert "user_id" not in explored.column_names
    assert engine.recommend(user_ids=[]).to_arrow().num_rows == 0


def test_tables_of_text_ids(text_engine):
    table = text_engine.recommend(user_ids=["é5"], top_n=2).to_arrow()
    assert [str(table.schema.field(name).type) for name in ("user_id", "item_id")] == ["string"] * 2


@pytest.mark.parametrize(("package", "call"), [("pandas", "to_pandas"), ("polars", "to_polars"),
                                               ("pyarrow", "to_arrow")])  # fmt: skip
def test_a_package_that_is_missing_is_named(engine, monkeypatch, package, call):
    answer = engine.recommend([{}])

    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ShortlistError, match=f"needs the package {package}, .*pip install '"):
        getattr(answer, call)()


def test_a_notebook_shows_titles_and_no_markup_of_others(make_tiny_bundle, tmp_path):
    world = make_tiny_bundle(tmp_path / "tiny.shortlist", "string")
    evil = "<script>alert('x')</script> & co"
    with shortlist.load(world.path) as engine:
        engine.upsert_items({"item_id": ["<b>"], "title": [evil], "n_events": [10**6]})
        shown = engine.recommend([{"user_id": "<i>"}, *[{}] * 9], top_n=12)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; co" in shown
    assert "<td>&lt;b&gt;</td>" in shown
    assert "<td>request 0, user &lt;i&gt;</td><td>popular</td><td>1</td>" in shown
    assert shown.startswith("<p>10 requests, top 12</p>\n<table>\n<tr><th>request</th>")
    assert shown.count("<tr>") == 1 + 5 * 10


def test_a_notebook_shows_requests_without_items(engine):
    shown = engine.recommend([{"user_id": 5}], allow=[])._repr_html_()
    assert "<td>request 0, user 5</td>" in shown
    assert "<td>no items</td>" in shown


def test_the_whole_text_leaves_nothing_out(engine):
    answer = engine.recommend([{}] * 7, top_n=12)
    text = answer.to_text()
    assert text.count("\n") == 7 * 13
    assert "more" not in text
    assert answer.to_text(1, 2).endswith("… 10 more\n… 6 more requests")


def test_control_characters_of_others_are_escaped_for_people(make_tiny_bundle, tmp_path):
    with shortlist.load(make_tiny_bundle(tmp_path / "x.shortlist", "string").path) as engine:
        engine.upsert_items([{"item_id": "é100", "title": "Clear\x1b[2J"}])
        answer = engine.recommend([{"user_id": "a\x1b[31m"}], allow=["é100"])
    for shown in (repr(answer), repr(answer[0]), answer.to_text()):
        assert "\x1b" not in shown
        assert "Clear\\u001b[2J" in shown
        assert "user a\\u001b[31m" in shown
    assert answer.titles[0, 0] == "Clear\x1b[2J"


def test_the_type_of_user_ids_does_not_depend_on_the_items(text_engine):
    requests = [{"user_id": "é5"}]
    kinds = {
        text_engine.recommend(requests, allow=allow).to_arrow().schema.field("user_id").type
        for allow in ([], None)
    }
    assert kinds == {pa.string()}
