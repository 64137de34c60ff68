"""A run becomes a bundle that answers like Keras, or nothing at all."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import shortlist.export.writer as writer_module
from shortlist.bundle import Bundle
from shortlist.bundle.storages import APPROXIMATE, ON_DISK
from shortlist.errors import BundleError, ShortlistError
from shortlist.export import ExportError, export_bundle, parity
from shortlist.export.parity import TOLERANCE, check_parity, held_out_users, list_difference
from shortlist.loading import load
from shortlist.shards import ShardedIndex


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "toy.shortlist"
    return path, export_bundle(run, path)


@pytest.mark.parametrize("which", ["text_run", "plain_run"])
def test_string_ids_and_runs_without_tables_pass_the_parity_gate(which, request, tmp_path):
    run = request.getfixturevalue(which)
    report = export_bundle(run, tmp_path / "toy.shortlist")
    parity = report.parity
    assert parity.n_users == parity.n_identical + parity.n_tied == 50
    assert parity.largest_score_difference < 1e-6
    with load(tmp_path / "toy.shortlist") as engine:
        history = run.split.catalogue[[4, 7]].tolist()
        assert engine.recommend({"history": [history]}).source.tolist() == ["history"]


def test_columns_of_any_name_are_exported_and_served(odd_run, tmp_path):
    report = export_bundle(odd_run, tmp_path / "odd.shortlist")
    assert report.parity.n_users == report.parity.n_identical + report.parity.n_tied == 50
    item = {f.name: 2.0 if f.kind == "numeric" else ["1"] for f in odd_run.features.side("item")}
    user = {f.name: 1.5 for f in odd_run.features.side("user") if f.kind == "numeric"}
    assert len(item) > 20
    assert len(user) > 5
    with load(tmp_path / "odd.shortlist") as engine:
        assert {"", "price/usd", "line\nend", "Größe"} <= set(engine.items.column_names)
        assert engine.upsert_items([{"item_id": 10_000, **item}]).n_added == 1
        answers = engine.recommend([{"user_id": 990}, {"history": [-8, -5], **user}, user], top_n=3)
        assert answers.counts.tolist() == [3, 3, 3]
        assert answers.source.tolist() == ["stored history", "history", "features"]


@pytest.mark.parametrize(
    ("storage", "least", "most"),
    [
        ("float16", 2**-14, 2**-10),
        ("bfloat16", 2**-11, 2**-7),
        ("int8", 2**-9, 2**-4),
        ("int4", 2**-6, 2),
        ("disk6", -1e-9, 1e-4),
    ],
)
def test_every_storage_passes_the_gate_within_what_it_rounds(
    storage, least, most, text_run, tmp_path
):
    settings = replace(text_run.config.export, storage=storage)
    run = replace(text_run, config=replace(text_run.config, export=settings))
    report = export_bundle(run, tmp_path / "toy.shortlist")
    assert report.parity.n_users == 50
    assert TOLERANCE + least < report.parity.tolerance < most
    with load(tmp_path / "toy.shortlist") as engine:
        told = engine.bundle.manifest
        assert told.storage == engine.report()["storage"] == engine.index.storage == storage
        assert told.recall == engine.report()["recall"] == engine.index.recall
        assert ("recall" in told.to_dict()) == (storage in APPROXIMATE)
        memory, said = engine.report()["memory"], engine.bundle.describe()["memory"]
        assert memory["items"] == engine.index.memory().to_dict()
        assert (memory["users"], memory["graphs"]) == (said["users"], said["graphs"])
        in_rows = memory["items"]["rows_on_disk"] + memory["items"]["mapped_rows"]
        assert in_rows == said["item_rows"]
        assert (memory["items"]["rows_on_disk"] > 0) == (storage in ON_DISK)
        words = {"disk6": "in memory, vectors", "int4": "answers are approximate, recall"}
        assert words.get(storage, f"item memory, {storage}: codes") in engine.bundle.outline()


def test_the_manifest_tells_parity_sizes_features_settings_and_versions(exported, run):
    path, report = exported
    with Bundle.open(path) as bundle:
        told = json.loads(json.dumps(bundle.describe()))
        summary = bundle.summary()
    assert told["parity"] == report.parity.to_dict()
    assert told["parity"]["n_identical"] + told["parity"]["n_tied"] == 50
    n_items = len(run.split.catalogue)
    assert (told["n_items"], told["n_users"], told["dim"]) == (n_items, 60, 16)
    assert told["metric"] == "cosine"
    assert told["storage"] == "float32"
    assert told["parity"]["tolerance"] == TOLERANCE
    assert "recall" not in told
    assert {(f["side"], f["name"], f["kind"]) for f in told["features"]} == {
        ("user", "age", "numeric"),
        ("user", "city", "categorical"),
        ("user", "level", "categorical"),
        ("user", "likes", "multi_categorical"),
        ("item", "genres", "multi_categorical"),
        ("item", "year", "numeric"),
    }
    assert told["training"]["config"]["model"]["dim"] == 16
    assert set(told["versions"]) >= {"tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime"}
    assert set(told["files"]) == {
        "user_encoder.onnx",
        "item_encoder.onnx",
        "scorer.onnx",
        "recommend.onnx",
        "recommend_portable.onnx",
        "graphs.data",
        "items.index",
        "items.arrow",
        "users.arrow",
        "followers.arrow",
    }
    assert set(report.graph_differences) == {"user_encoder", "item_encoder", "scorer"}
    assert max(report.graph_differences.values()) < 1e-5
    assert "likes" in summary
    assert "2 known values (string)" in summary


def test_graphs_for_hosts_pass_their_gate_and_the_manifest_says_so(exported):
    graphs = exported[1].parity.graphs
    expected = {"recommend.onnx": 0.0, "recommend_portable.onnx": 1e-4}
    assert {name: told["tolerance"] for name, told in graphs.items()} == expected
    # held-out users, then the same without histories, then one request of nothing
    assert all(told["n_users"] == 50 + 50 + 1 for told in graphs.values())


def test_a_graph_for_hosts_that_answers_otherwise_fails_the_export(
    plain_run, tmp_path, monkeypatch
):
    original = writer_module.write_host_graphs

    def corrupt(parts, index, directory, *, portable):
        wrong = replace(parts, item_ids=parts.item_ids[::-1])
        original(wrong, index, directory, portable=portable)

    monkeypatch.setattr(writer_module, "write_host_graphs", corrupt)
    with pytest.raises(ExportError, match="it answers otherwise than the engine; nothing was wri"):
        export_bundle(plain_run, tmp_path / "toy.shortlist")
    assert list(tmp_path.iterdir()) == []


def test_the_portable_graph_is_left_out_where_it_is_not_wanted(plain_run, tmp_path):
    settings = replace(plain_run.config.export, portable=False)
    run = replace(plain_run, config=replace(plain_run.config, export=settings))
    report = export_bundle(run, tmp_path / "toy.shortlist")
    with Bundle.open(report.path) as bundle:
        assert bundle.has("recommend.onnx")
        assert not bundle.has("recommend_portable.onnx")
    assert "recommend_portable.onnx" not in report.parity.graphs


def test_shards_of_a_bundle_answer_as_its_index(plain_run, tmp_path):
    settings = replace(plain_run.config.export, shards=3)
    run = replace(plain_run, config=replace(plain_run.config, export=settings))
    path = export_bundle(run, tmp_path / "toy.shortlist").path
    sharded = ShardedIndex.load(path)
    users = [{"history": run.split.catalogue[[4, 7]].tolist()}]
    with load(path) as engine:
        queries = engine.encode_users(users)
        expected = engine.index.search(queries, 20)
        hits = sharded.search(queries, 20)
        assert len(sharded.shards) == 3
        assert hits.item_ids.tolist() == expected.item_ids.tolist()
        assert hits.scores.tobytes() == expected.scores.tobytes()
        assert {shard.file for shard in sharded.shards} < set(engine.bundle.manifest.files)
    with pytest.raises(BundleError, match="found a bundle, whose manifest vouches"):
        sharded.replace({0: sharded.index})


def test_item_rows_are_catalogue_rows_with_train_popularity_titles_and_extra_items(exported, run):
    with load(exported[0]) as engine:
        table = engine.items
        assert table.column("item_id").to_pylist() == run.split.catalogue.tolist()
        counts = run.split.train.group_by("item_id").len()
        expected = dict(zip(counts["item_id"], counts["len"], strict=True))
        found = table.column("n_events").to_pylist()
        assert found == [expected.get(item, 0) for item in run.split.catalogue.tolist()]
        assert table.column("title").to_pylist()[:3] == [None, "Film 1", "Film 2"]
        assert engine.recommend([{}], top_n=1).scores[0, 0] == max(found)


def test_a_stored_user_gets_what_the_same_history_and_features_get_by_hand(exported, run):
    dataset = run.split.dataset
    users = dataset.users["user_id"].to_list()[:12]
    events = dataset.events
    histories = [events.filter(pl.col("user_id") == user)["item_id"].to_list() for user in users]
    by_hand = {"history": histories}
    for name in ("age", "city", "level", "likes"):
        by_hand[name] = dataset.users[name][:12].to_list()
    with load(exported[0]) as engine:
        stored, given = engine.recommend({"user_id": users}), engine.recommend(by_hand)
    assert stored.source.tolist() == ["stored history"] * 12
    assert stored.item_ids.tolist() == given.item_ids.tolist()
    assert stored.scores.tobytes() == given.scores.tobytes()


def test_user_features_given_raw_equal_keras_on_encoded_ones(exported, run):
    users = run.split.dataset.users
    codes = run.features.encode_history([[]] * len(users))
    expected = run.two_tower.encode_users(codes, run.features.encode_users(users))
    columns = {name: users[name] for name in ("age", "city", "level", "likes")}
    with load(exported[0]) as engine:
        found = engine.encode_users(columns)
        from_arrow = engine.encode_users(users.to_arrow())
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert from_arrow.shape == found.shape


def test_new_items_are_encoded_from_content_like_keras_does(exported, run):
    table = pl.DataFrame(
        {"item_id": [999_999, -7], "genres": [["war", "new genre"], None], "year": [1990, None]}
    )
    expected = run.two_tower.item_model(run.features.encode_items(table)).numpy()
    with load(exported[0]) as engine:
        np.testing.assert_allclose(engine.encode_items(table), expected, atol=1e-6)


def test_scores_equal_the_keras_scorer_on_the_same_candidates(exported, run):
    with load(exported[0]) as engine:
        assert engine.default_stages == 2
        request = {"history": [run.split.catalogue[[1, 2, 3]].tolist()]}
        rows = np.array([[5, 6, 7, 8]])
        found = engine.score(request, run.split.catalogue[rows])
        items = engine.index.vectors(rows[0])
        similarity = engine.encode_users(request) @ items.T
    inputs = {"history": np.array([[2, 3, 4]]), "candidates": rows + 1, "similarity": similarity}
    np.testing.assert_allclose(found, run.scorer.model(inputs).numpy(), rtol=1e-4, atol=1e-5)


def test_a_second_stage_that_does_not_help_stays_out_and_the_manifest_says_so(run, tmp_path):
    worse = replace(run.reranker_report, is_kept=False, ndcg_at_10_with=0.05)
    report = export_bundle(replace(run, reranker_report=worse), tmp_path / "b.shortlist")
    assert set(report.graph_differences) == {"user_encoder", "item_encoder"}
    with load(report.path) as engine:
        assert not engine.bundle.has("scorer.onnx")
        assert engine.bundle.manifest.second_stage.measured["is_kept"] is False
        assert engine.default_stages == 1
        request = {"history": [run.split.catalogue[[1, 2]].tolist()]}
        assert engine.recommend(request).stages.tolist() == [1]
        with pytest.raises(ShortlistError, match=r"did not help.*0\.0500 with it, 0\.1000 without"):
            engine.recommend(request, stages=2)


def test_a_wrong_second_stage_fails_the_gate(run, tmp_path, monkeypatch):
    original, weights = writer_module.write_graphs, run.scorer.scorer.get_weights()

    def corrupt(run, vectors, directory):
        result = original(run, vectors, directory)
        run.scorer.scorer.set_weights({k: v[::-1] * 1.5 for k, v in weights.items()})
        return result

    monkeypatch.setattr(writer_module, "write_graphs", corrupt)
    with pytest.raises(ExportError, match="nothing was written"):
        export_bundle(run, tmp_path / "b.shortlist")
    run.scorer.scorer.set_weights(weights)
    assert not (tmp_path / "b.shortlist").exists()


def test_weights_that_change_after_conversion_fail_the_gate_and_nothing_is_written(
    run, tmp_path, monkeypatch
):
    out = tmp_path / "toy.shortlist"
    original, weights = writer_module.write_graphs, run.two_tower.get_weights()

    def corrupt(run, vectors, directory):
        differences = original(run, vectors, directory)
        changed = {name: value + 0.3 for name, value in weights.items() if "mix" in name}
        run.two_tower.set_weights(weights | changed)
        return differences

    monkeypatch.setattr(writer_module, "write_graphs", corrupt)
    try:
        with pytest.raises(ExportError) as caught:
            export_bundle(run, out)
    finally:
        run.two_tower.set_weights(weights)
    message = str(caught.value)
    assert "the bundle's top-10 is not Keras's; nothing was written" in message
    user = held_out_users(run, 50).user_ids.tolist()
    assert int(message.split("First differing user: ")[1].split("\n")[0]) in user
    keras, bundle = (line for line in message.split("\n") if line.startswith("  "))
    assert keras.count("(") == bundle.count("(") == 10
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_old_bundle_as_it_was(plain_run, tmp_path, monkeypatch):
    out = tmp_path / "toy.shortlist"
    export_bundle(plain_run, out, store_users=False)
    before = Bundle.open(out).manifest
    assert "users.arrow" not in before.files
    assert before.n_users == 0

    def fail(*_):
        raise ExportError("no")

    monkeypatch.setattr(writer_module, "write_graphs", fail)
    with pytest.raises(ExportError, match="no"):
        export_bundle(plain_run, out)
    assert Bundle.open(out).manifest == before
    assert [path.name for path in tmp_path.iterdir()] == ["toy.shortlist"]


def test_a_wrong_out_name_is_refused_before_any_work(run, tmp_path):
    with pytest.raises(BundleError, match=r"expected a name ending in \.shortlist, found '.*toy'"):
        export_bundle(run, tmp_path / "toy")


def test_a_list_in_another_order_fails_the_gate(exported, run):
    with load(exported[0]) as engine:

        class Swapped:
            """The engine, but with the last two places of each list exchanged."""

            index, items, encode_items = engine.index, engine.items, engine.encode_items

            def recommend(self, requests, top_n, stages):
                answer = engine.recommend(requests, top_n, stages=stages)
                order = [*range(top_n - 2), top_n - 1, top_n - 2]
                answer.indices = answer.indices[:, order]
                answer.scores = answer.scores[:, order]
                return answer

        with pytest.raises(ExportError, match="First differing user"):
            check_parity(run, Swapped(), n_users=5)
        assert check_parity(run, engine, n_users=5).n_users == 5


def test_only_scores_closer_than_the_tolerance_may_change_places():
    scores = np.array([0.9, 0.5, 0.5 + 1e-7, 0.1, -np.inf])
    best = np.array([0, 2, 1])
    assert list_difference(scores, best, best, scores[best]) == 0
    assert list_difference(scores, np.array([0, 1, 2]), best, scores[[0, 1, 2]]) < TOLERANCE
    for wrong in ([2, 0, 1], [0, 1, 3], [0, 2, 2], [0, 2], [0, 2, 4]):
        found = np.array(wrong)
        assert list_difference(scores, found, best, scores[found]) > TOLERANCE


def test_held_out_users_fall_back_to_train_when_nothing_is_held_out(run):
    events = run.split.train.head(0)
    split = replace(run.split, valid=events, test=events)
    users = held_out_users(replace(run, split=split), 7)
    assert len(users.user_ids) == len(users.histories) == users.table.height == 7
    assert all(len(history) for history in users.histories)


@pytest.mark.parametrize("top_n", [1, 3, 5, 6, 9])
def test_the_reference_list_has_ties_by_the_lower_row_and_no_excluded_item(top_n):
    scores = np.array([0.5, -np.inf, 0.9, 0.5, -1.0, 0.9, -np.inf])
    expected = [2, 5, 0, 3, 4][:top_n]
    assert parity._best(scores, top_n).tolist() == expected


def test_the_gate_gives_the_same_report_in_small_parts(exported, run, monkeypatch):
    with load(exported[0]) as engine:
        whole = check_parity(run, engine, n_users=20)
        monkeypatch.setattr(parity, "MAX_SCORES", 3 * len(engine.index))
        parts = check_parity(run, engine, n_users=20)
    assert parts.n_identical == whole.n_identical > 0
    assert parts.largest_score_difference == pytest.approx(whole.largest_score_difference, abs=1e-7)
