"""A private bundle and its run folder hold what was released and nothing else, and they serve."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys

import numpy as np
import onnx
import polars as pl
import pyarrow as pa
import pytest

import shortlist
from shortlist.bundle import Bundle
from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.export.errors import ExportError
from shortlist.export.released import FILES, refuse_unreleased
from shortlist.training import train
from shortlist.training.config.settings import read_config
from shortlist.training.fit import checkpoint
from shortlist.training.pipeline import private
from shortlist.training.splits.held_out import fingerprint

N_USERS, N_ITEMS = 211, 37
SETTINGS = {"privacy.epsilon": 8.0}


def events_of(seed, n_users=N_USERS):
    random = np.random.default_rng(seed)
    rows = []
    for user in range(n_users):
        group = random.integers(0, 6)
        order = random.permutation(N_ITEMS)
        order = order[np.argsort(order % 6 != group, kind="stable")]
        rows += [
            (f"secret-user-{seed}-{user}", f"i{item}", 1_700_000_000 + 3607 * place + user)
            for place, item in enumerate(order[: random.integers(5, 12)])
        ]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def items_table():
    names = [f"i{item}" for item in range(N_ITEMS)]
    return pl.DataFrame({"item_id": names, "title": [name.upper() for name in names]})


def make(folder, seed=0, settings=(), **options):
    settings = {**SETTINGS, **dict(settings)}
    return train(
        events_of(seed), items_table(), out=folder / "a.shortlist", settings=settings,
        progress=False, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("private"))


def every_file(report):
    return [p for folder in (report.bundle, report.run) for p in folder.rglob("*") if p.is_file()]


def decoded(path):
    """Return all that a file says: its bytes, and its values as text."""
    parts = [path.read_bytes().decode("latin-1")]
    if path.suffix == ".arrow":
        parts.append(str(pa.ipc.open_file(path).read_all().to_pydict()))
    elif path.suffix == ".parquet":
        parts.append(str(pl.read_parquet(path).to_dicts()))
    elif path.suffix == ".json":
        parts.append(str(json.loads(path.read_text())))
    elif path.suffix == ".npz":
        with np.load(path) as arrays:  # weights and pairs have noise in every number
            numbers = [arrays[name] for name in arrays.files if name.endswith("counts")]
            parts.append(str([array.tolist() for array in numbers]))
    elif path.suffix == ".onnx":
        model = onnx.load(path)  # with what it keeps in graphs.data
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            parts.append(str(values.tolist()) if values.dtype.kind in "OUS" else "")
    return "".join(parts)


def test_no_file_holds_a_user_a_time_or_a_hash_of_the_events(made):
    events = events_of(0)
    secrets = {"secret-user", *(str(time) for time in events["timestamp"])}
    whole = train_frames(events)
    secrets |= {fingerprint(frame) for frame in whole}
    for path in every_file(made):
        text = decoded(path)  # digits inside of a noisy number are no secret
        found = [secret for secret in secrets if secret in text]
        found = [secret for secret in found if re.search(rf"(?<![\d.]){secret}(?!\d)", text)]
        assert found == [], path


def train_frames(events):
    ordered = events.sort("user_id", "timestamp").with_columns(
        kind=pl.lit("event"), value=pl.lit(None, pl.Float32)
    )
    place = pl.int_range(pl.len()).over("user_id")
    n_events = pl.len().over("user_id")
    return [ordered, *(ordered.filter(place < n_events - left) for left in (1, 2))]


def test_a_report_of_cleaning_is_not_kept(tmp_path):
    settings = {"cleaning.enabled": True, "model.encoder": "popularity"}
    report = make(tmp_path, settings=settings)
    assert report.cleaning is None
    assert not list(report.run.glob("cleaning*"))


def test_exact_counts_are_nowhere(made):
    numbers = json.loads((made.bundle / "manifest.json").read_text())
    assert numbers["n_users"] == 0
    assert "data" not in numbers["lineage"]
    assert numbers["metrics"] == {}
    assert set(numbers["training"]["data"]) == {"is_private", "protocol"}

    def leaves(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            return [leaf for entry in value for leaf in leaves(entry)]
        return [value]

    sizes = {N_USERS, *(frame.height for frame in train_frames(events_of(0)))}
    assert not sizes & {leaf for leaf in leaves(numbers) if isinstance(leaf, int)}
    exact = events_of(0)["item_id"].value_counts().sort("item_id")["count"].to_list()
    table = pa.ipc.open_file(made.bundle / "items.arrow").read_all()
    stored = dict(zip(table["item_id"].to_pylist(), table["n_events"].to_pylist(), strict=True))
    assert [stored[item] for item in sorted(stored)] != exact


def meaning(path):
    """Return a file's bytes; of a graph all but names, which count the graphs of a process."""
    if path.suffix == ".npz":  # a zip, which has times of day
        with np.load(path) as arrays:
            return {name: arrays[name].tobytes() for name in arrays.files if name != "state.json"}
    if path.suffix != ".onnx":
        return path.read_bytes()
    graph = onnx.load(path).graph
    nodes = [
        b" ".join([node.op_type.encode(), *(a.SerializeToString() for a in node.attribute)])
        for node in graph.node
        if node.op_type != "If"
    ]
    tensors = []
    for tensor in graph.initializer:
        tensor.ClearField("name")
        tensors.append(tensor.SerializeToString())
    return sorted(nodes), sorted(tensors)


def test_the_files_depend_on_the_release_alone(tmp_path, monkeypatch):
    """Other events with the same release give the same bytes: nothing else goes in."""
    kept = []
    real = private.release

    def once(*arguments, **options):
        kept.append(real(*arguments, **options) if not kept else kept[0])
        return kept[-1]

    monkeypatch.setattr(private, "release", once)
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    reports = [make(tmp_path / "x", seed=0), make(tmp_path / "y", seed=1)]
    files = [{p.relative_to(r.bundle.parent): p for p in every_file(r)} for r in reports]
    assert files[0].keys() == files[1].keys()
    for name, path in files[0].items():
        if name.name in ("manifest.json", "metrics.jsonl"):  # times of day, and seconds
            continue
        assert meaning(path) == meaning(files[1][name]), name
    manifests = [json.loads((r.bundle / "manifest.json").read_text()) for r in reports]
    for manifest in manifests:
        manifest.pop("files")
        for record in (manifest, manifest["lineage"]):
            record.pop("created")
        manifest["lineage"].pop("version")
    assert manifests[0] == manifests[1]


def test_a_file_or_field_that_was_not_released_is_refused(tmp_path, made):
    fields = {name: made.load().bundle.manifest[name] for name in ("created", "privacy")}
    refuse_unreleased(made.bundle, fields)
    assert set(FILES) >= {path.name for path in made.bundle.iterdir()}
    folder = tmp_path / "copy"
    shutil.copytree(made.bundle, folder)
    (folder / "users.arrow").write_bytes(b"")
    with pytest.raises(ExportError, match=r"got users\.arrow, which was not released"):
        refuse_unreleased(folder, fields)
    for extra in ({"segments": {}}, {"metrics": {"NDCG@10": 0.1}}, {"lineage": {"data": {}}}):
        with pytest.raises(ExportError, match="which was not released"):
            refuse_unreleased(made.bundle, fields | extra)


def test_histories_come_with_the_request(made):
    with made.load() as engine:
        answer = engine.recommend({"history": [["i0", "i6", "i12"], ["i1"], []]}, top_n=5)
        assert answer.counts.tolist() == [5, 5, 5]
        first = [int(item[1:]) for item in answer.item_ids[0]]
        assert sum(item % 6 == 0 for item in first) >= 2  # what the groups say, through the noise


def test_a_catalogue_in_shards_may_be_in_a_private_bundle(tmp_path):
    report = make(tmp_path, settings={"model.encoder": "popularity", "export.shards": 2})
    assert len(list(report.bundle.glob("shard-*.index"))) == 2


def test_users_name_themselves_by_ids_of_the_type_that_the_events_had(made):
    with made.load() as engine:
        answer = engine.recommend({"user_id": ["reader-1"], "history": [["i0"]]}, top_n=3)
        assert answer.counts.tolist() == [3]
        assert engine.bundle.manifest.user_id_dtype == "string"


def test_plugin_and_portable_graph_answer_as_the_engine_does(made):
    assert set(made.parity.graphs) == {"recommend.onnx", "recommend_portable.onnx"}
    for found in made.parity.graphs.values():
        assert found["n_identical"] + found["n_tied"] == found["n_users"] > 1000


def test_the_run_folder_exports_the_same_private_bundle_again(made, tmp_path):
    out = tmp_path / "b.shortlist"
    assert main(["export", str(made.run), "--out", str(out)]) == 0
    with Bundle.open(out) as again, Bundle.open(made.bundle) as first:
        assert again.manifest["privacy"] == first.manifest["privacy"]
        assert again.manifest.n_users == 0
    for name in ("items.index", "items.arrow", "recommend.onnx"):
        assert meaning(out / name) == meaning(made.bundle / name)


def test_a_neural_encoder_learns_from_synthetic_walks(tmp_path, monkeypatch):
    monkeypatch.setattr(private, "N_TRAINED", 200)
    settings = {"model.encoder": "pool", "train.epochs": 1, "model.dim": 8}
    report = make(tmp_path, settings=settings)
    for path in every_file(report):
        if path.suffix != ".npz" or path.name == "release.npz":
            assert "secret-user" not in decoded(path), path
    with report.load() as engine:
        assert engine.recommend({"history": [["i0"]]}, top_n=3).counts.tolist() == [3]


def test_it_is_evaluated_on_histories_that_the_evaluation_brings(made):
    report = shortlist.training.evaluate(
        made.bundle, events_of(0), items=items_table(), baselines=False
    )
    assert report.users.measured == N_USERS
    assert "as it is private" in str(report)


def test_inspect_prints_what_is_promised(made, capsys):
    assert main(["inspect", str(made.bundle)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    sentence = made.privacy
    assert "read from this bundle differs by a factor of at most e^8 = 2,981," in sentence
    assert "delta = 0.001" in sentence
    assert sentence in shown
    assert "NOT PRIVATE" not in sentence


def test_a_second_release_adds_to_the_ledger_and_a_spent_budget_refuses(made, tmp_path):
    settings = {"privacy.parent": str(made.bundle), "privacy.budget": 14.0}
    report = make(tmp_path, seed=1, settings=settings)
    with Bundle.open(report.bundle) as bundle:
        ledger, manifest = bundle.manifest["privacy"], bundle.manifest
    assert [entry["epsilon"] for entry in ledger["releases"]] == [8.0, 8.0]
    assert 8.0 < ledger["epsilon"] < 14.0
    assert manifest["lineage"]["parent"] is not None
    assert "read from this bundle and the 1 before it differs by" in manifest.privacy.sentence
    (tmp_path / "more").mkdir()
    with pytest.raises(DataError, match=r"privacy\.budget: got 9, but this release"):
        make(tmp_path / "more", settings=settings | {"privacy.budget": 9.0})
    assert list((tmp_path / "more").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"privacy.delta": 0.01}, r"privacy\.delta: got 0\.01 with 211 users"),
        ({"export.store_users": True}, r"export\.store_users: got True with privacy\.epsilon"),
        ({"privacy.parent": "nowhere.shortlist"}, r"privacy\.parent: got nowhere"),
    ],
)
def test_bad_settings_write_nothing(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        make(tmp_path, settings=change)
    assert list(tmp_path.iterdir()) == []


def test_the_catalogue_must_be_public(tmp_path):
    with pytest.raises(DataError, match=r"data\.items: got none with privacy\.epsilon.*Fix: give"):
        train(events_of(0), out=tmp_path / "a.shortlist", settings=SETTINGS, progress=False)
    fewer = items_table().filter(pl.col("item_id") != "i5")
    with pytest.raises(DataError, match=r"events of 1 items that the item table lacks.*'i5'"):
        train(events_of(0), fewer, out=tmp_path / "a.shortlist", settings=SETTINGS, progress=False)
    users = events_of(0).select("user_id").unique()
    with pytest.raises(DataError, match=r"users: got a table with privacy\.epsilon"):
        train(
            events_of(0), items_table(), users, out=tmp_path / "a.shortlist", settings=SETTINGS,
            progress=False,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_catalogue_whose_matrix_is_too_large_is_refused_with_what_to_do(tmp_path):
    more = pl.DataFrame({"item_id": [f"n{i}" for i in range(8192 - N_ITEMS)], "title": "new"})
    items = pl.concat([items_table(), more])
    with pytest.raises(DataError, match=r"data\.items: got 8,192 items .*that a public list names"):
        train(events_of(0), items, out=tmp_path / "a.shortlist", settings=SETTINGS, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_privacy_is_no_parent(tmp_path):
    plain = tmp_path / "plain.shortlist"
    settings = {"model.encoder": "popularity"}
    train(events_of(0), items_table(), out=plain, settings=settings, progress=False)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"which was trained without privacy, expected a private"):
        make(tmp_path / "out", settings={"privacy.parent": str(plain)})
    with pytest.raises(DataError, match=r"privacy\.parent: got .*plain\.run, which is no bundle"):
        make(tmp_path / "out", settings={"privacy.parent": str(tmp_path / "plain.run")})
    assert list((tmp_path / "out").iterdir()) == []


class Killed(BaseException):
    pass


def is_private(bundle):
    with Bundle.open(bundle) as opened:
        return opened.manifest.privacy is not None


def test_a_run_that_was_killed_at_any_moment_is_exported_as_private_or_not_at_all(
    tmp_path, monkeypatch
):
    settings = {"model.encoder": "popularity"}
    real, n_exported, is_done = checkpoint.replacing, 0, False
    for n_writes in range(30):
        written = 0

        def until(path, n_writes=n_writes):
            nonlocal written
            written += 1
            if written > n_writes:
                raise Killed
            return real(path)

        folder = tmp_path / str(n_writes)
        folder.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "replacing", until)
            with contextlib.suppress(Killed):
                is_done = is_private(make(folder, settings=settings).bundle)
        run, out = folder / "a.run", folder / "b.shortlist"
        files = [path for path in run.rglob("*") if path.is_file()] if run.exists() else []
        assert not files or (run / "privacy.json").exists()
        if is_done:
            break
        if main(["export", str(run), "--out", str(out)]) == 0:
            assert is_private(out)
            n_exported += 1
    assert n_writes > 8
    assert n_exported == 1  # killed as the last file, the settings, was written again


def test_a_run_that_was_killed_lends_its_promise_to_no_other(tmp_path, monkeypatch):
    def kill(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(private.fit, "finish", kill)
        with pytest.raises(Killed):
            make(tmp_path)
    out = tmp_path / "a.shortlist"
    plain = {"out": out, "settings": {"model.encoder": "popularity"}, "progress": False}
    with pytest.raises(DataError, match=r"which holds a private training, without privacy\.eps"):
        train(events_of(0), items_table(), **plain)
    assert train(events_of(0), items_table(), overwrite=True, **plain).privacy == ""
    assert not is_private(out)


def test_a_ledger_beside_other_events_is_no_promise(made, tmp_path):
    settings = {"model.encoder": "popularity"}
    out = tmp_path / "a.shortlist"
    report = train(events_of(0), items_table(), out=out, settings=settings, progress=False)
    shutil.copy(made.run / "privacy.json", report.run)
    shutil.copy(made.run / "release.npz", report.run)
    assert main(["export", str(report.run), "--out", str(tmp_path / "b.shortlist")]) == 1
    assert not (tmp_path / "b.shortlist").exists()


def test_a_folder_with_something_in_it_takes_no_private_run(tmp_path):
    (tmp_path / "a.run").mkdir()
    (tmp_path / "a.run" / "choice.json").write_text("{}")
    with pytest.raises(DataError, match=r"which holds choice\.json, expected a new or empty"):
        make(tmp_path)
    assert [path.name for path in (tmp_path / "a.run").iterdir()] == ["choice.json"]


def test_a_refusal_deletes_no_run_and_an_overwritten_run_leaves_no_parent(made, tmp_path):
    parent = {"privacy.parent": str(made.bundle)}
    report = make(tmp_path, settings=parent)
    before = {path: path.read_bytes() for path in every_file(report)}
    with pytest.raises(DataError, match=r"privacy\.budget: got 9, but this release"):
        make(tmp_path, settings=parent | {"privacy.budget": 9.0}, overwrite=True)
    assert {path: path.read_bytes() for path in every_file(report)} == before
    again = make(tmp_path, overwrite=True)
    with Bundle.open(again.bundle) as bundle:
        assert bundle.manifest["lineage"]["parent"] is None


def changed(bundle, folder, change):
    """Copy a bundle with another ledger."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["privacy"] |= change
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": "a fixed seed: NOT PRIVATE"}, "whose noise had a known seed"),
        ({"releases": []}, "whose ledger does not add up"),
        ({"releases": [{"epsilon": 8.0, "sigma": 0.0}]}, "whose ledger does not add up"),
        ({"releases": [{"epsilon": 8.0}]}, "whose ledger does not add up"),
    ],
)
def test_a_parent_whose_ledger_says_nothing_sound_is_refused(made, tmp_path, change, message):
    parent = changed(made.bundle, tmp_path / "parent.shortlist", change)
    with pytest.raises(DataError, match=rf"privacy\.parent: got .*{message}"):
        private.read_parent(str(parent))


def test_settings_of_privacy_without_epsilon_are_no_silent_training(tmp_path):
    for settings in ({"privacy.budget": 8.0}, {"privacy.parent": "old.shortlist"}):
        with pytest.raises(DataError, match=r"without privacy\.epsilon, .*Fix: set privacy\.eps"):
            train(
                events_of(0), items_table(), out=tmp_path / "a.shortlist", settings=settings,
                progress=False,
            )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_the_settings_of_a_private_run_train_a_private_run_again(made):
    assert read_config(made.run / "config.toml").privacy.epsilon == 8.0


def test_the_missing_accountant_is_told_before_tables_are_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(DataError, match=r"needs the package 'dp-accounting'.*Fix: pip install"):
        train("nowhere.csv", out=tmp_path / "a.shortlist", settings=SETTINGS, progress=False)


def test_what_would_spend_more_without_saying_so_is_refused(made, tmp_path, capsys):
    log = tmp_path / "feedback.log"
    shortlist.FeedbackLog(log).close()
    assert main(["update", str(made.bundle), "--feedback", str(log)]) == 1
    assert "--set privacy.parent=" in capsys.readouterr().err
    assert main(["inspect", str(made.bundle), "--feedback", str(log)]) == 1
    assert "private and keeps no events" in capsys.readouterr().err
    with pytest.raises(DataError, match="its noise has no seed"):
        shortlist.training.evaluate(made.bundle, events_of(0), items=items_table(), seeds=2)
