"""What the C engine refuses beside answers: parts, and changes of items; nothing changes then."""

import json
import shutil
from ctypes import POINTER, byref, c_void_p, pointer

import numpy as np
import pytest
from c_engine import (
    Answer,
    CEngine,
    Column,
    column,
    columns_array,
    filter_of,
    lists,
    open_engine,
    requests_of,
)
from c_library import (
    FILE_ERROR,
    INVALID_ARGUMENT,
    CError,
    Ids,
    address,
    call,
    new_ids,
    size,
)

import shortlist
from shortlist.bundle import Bundle, BundleWriter

WAR = [lists("genres", [["war"]], object)]
TWO_NAMES = new_ids([900])
TWO_NAMES.texts = new_ids(["x"]).texts


@pytest.fixture(scope="module")
def engine(bundle):
    with CEngine(bundle.path) as engine:
        yield engine


@pytest.fixture(scope="module")
def text_engine(text_bundle):
    with CEngine(text_bundle.path) as engine:
        yield engine


def refused(match, name, *arguments, status=INVALID_ARGUMENT):
    with pytest.raises(CError, match=f"^{match}") as caught:
        call(name, *arguments)
    assert caught.value.status == status


def generation(engine):
    """Grows with every change of the items."""
    view = engine.view()
    found = view.info.version
    view.close()
    return found


ENGINE = "engine: got NULL; expected an engine of shortlist_engine_open"


def test_a_missing_engine_is_named_by_every_function():
    requests, ids, out = requests_of([], 1, 1), new_ids([100]), c_void_p()
    refused(ENGINE, "engine_encode_users", None, byref(requests), None)
    refused(ENGINE, "engine_score", None, byref(requests), byref(ids), None)
    refused(ENGINE, "engine_encode_items", None, None, size(0), size(0), None)
    refused(ENGINE, "engine_upsert", None, byref(ids), None, size(0), None)
    refused(ENGINE, "engine_remove", None, byref(ids), None)
    refused(ENGINE, "engine_view", None, byref(out))


def test_missing_arguments_are_named(engine):
    handle, ids = engine.handle, new_ids([100])
    requests = requests_of([], 1, 1)
    embeddings = np.empty((1, 8), np.float32)
    for name in ("engine_encode_users", "engine_score"):
        more = [None] if name == "engine_score" else []
        refused("requests: got NULL", name, handle, None, *more, None)
    refused("embeddings: got NULL; expected room for n_requests \\* dim numbers",
            "engine_encode_users", handle, byref(requests), None)  # fmt: skip
    refused("item_ids: got NULL", "engine_score", handle, byref(requests), None, None)
    refused("scores: got NULL; expected room for n_requests \\* top_n numbers",
            "engine_score", handle, byref(requests), byref(ids), None)  # fmt: skip
    refused("columns: got NULL; expected n_columns columns",
            "engine_encode_items", handle, None, size(1), size(1), address(embeddings))  # fmt: skip
    refused("embeddings: got NULL; expected room for n_items \\* dim numbers",
            "engine_encode_items", handle, None, size(0), size(1), None)  # fmt: skip
    refused("item_ids: got NULL", "engine_upsert", handle, None, None, size(0), None)
    refused("columns: got NULL", "engine_upsert", handle, byref(ids), None, size(2), None)
    refused("item_ids: got NULL", "engine_remove", handle, None, None)
    refused("view: got NULL", "engine_view", handle, None)


def test_an_error_leaves_no_view(engine):
    view = c_void_p(12345)
    refused(ENGINE, "engine_view", None, byref(view))
    assert view.value is None


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (new_ids(["x"]), "item_ids: got texts; expected numbers: the ids of this index are int64"),
        (new_ids([7, 8, 7]), "item_ids: got 7 twice, in rows 0 and 2; expected unique ids"),
        (new_ids([7], as_rows=True), "item_ids: got rows; expected one of numbers and texts"),
        (Ids(n=2), "item_ids: got 0 arrays for 2 ids; expected one of numbers and texts"),
        (TWO_NAMES, "item_ids: got 2 arrays for 1 ids; expected one of numbers and texts"),
    ],
)  # fmt: skip
def test_ids_that_no_items_can_have_are_named(engine, ids, message):
    before = generation(engine)
    vectors = np.ones((3, 8), np.float32)
    refused(message, "engine_upsert", engine.handle, byref(ids), None, size(0), address(vectors))
    refused(message, "engine_remove", engine.handle, byref(ids), None)
    assert generation(engine) == before


def test_ids_that_mark_missing_places_are_not_upserted(engine, text_engine):
    for one, values, message in (
        (engine, [100, -1], "item_ids: got -1 at position 1, which marks missing places"),
        (text_engine, ["a", ""], "item_ids: got an empty text at position 1"),
        (text_engine, [b"\xff"], "item_ids: got bytes at position 0 that hold NUL or are no UTF-8"),
        (text_engine, [5], "item_ids: got numbers; expected texts: the ids of this index are text"),
    ):
        ids = new_ids(values)
        refused(message, "engine_upsert", one.handle, byref(ids), None, size(0), None)
    assert engine.remove([-1]) == text_engine.remove(["", "?"]) == 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([column("user_id", [5])], "columns: name: got 'user_id'; expected one of item_id, genres"),
        ([column("n_events", [5])], "columns: name: got 'n_events'; expected one of item_id"),
        ([Column()], "columns: name: got no name; expected one of item_id, genres, year"),
        (WAR + WAR, "columns: genres: got it twice; expected each column once"),
        ([column("year", [1999])], "columns: year: got values of another kind; expected floats"),
        ([column("year", np.array([np.inf], np.float32))], "columns: year: got inf at position 0"),
        ([lists("year", [[1.0]], np.float32)], "columns: year: got splits; expected NULL"),
        ([column("genres", np.array(["war"]), [1, 1])], "columns: genres: got splits that do not"),
    ],
)  # fmt: skip
def test_a_wrong_column_of_items_is_named(engine, columns, message):
    before, ids = generation(engine), new_ids([900])
    array, embeddings = columns_array(columns), np.empty((1, 8), np.float32)
    n = size(len(columns))
    refused(message, "engine_upsert", engine.handle, byref(ids), array, n, None)
    refused(message, "engine_encode_items", engine.handle, array, n, size(1), address(embeddings))
    assert generation(engine) == before


def test_ids_come_beside_the_columns_of_an_upsert_and_not_in_them(engine):
    ids = new_ids([900])
    array = columns_array([column("item_id", [900])])
    refused("columns: item_id: got it twice", "engine_upsert", engine.handle, byref(ids), array,
            size(1), None)  # fmt: skip


def test_vectors_are_numbers_and_come_alone(engine):
    before, ids = generation(engine), new_ids([100, 900])
    vectors = np.ones((2, 8), np.float32)
    refused("vectors: got some beside columns; expected either; set vectors to NULL",
            "engine_upsert", engine.handle, byref(ids), columns_array(WAR), size(1),
            address(vectors))  # fmt: skip
    for value in (np.nan, np.inf):
        vectors[1, 3] = value
        refused("vectors: row 1 holds a NaN or an infinity; expected finite numbers",
                "engine_upsert", engine.handle, byref(ids), None, size(0),
                address(vectors))  # fmt: skip
    assert generation(engine) == before


def test_wrong_items_to_score_are_named(engine):
    handle, scores = engine.handle, np.empty((2, 3), np.float32)
    history = [column("history", [[100], [107]])]
    requests = requests_of(history, 2, 3)
    for ids, message in (
        (new_ids([100] * 5), "item_ids: got 5; expected 6, top_n for each request"),
        (new_ids(["x"] * 6), "item_ids: got texts; expected numbers"),
        (new_ids([0, 1, 2, 3, 40, -1], as_rows=True), "rows: got 40 at position 4; the index has"),
        (Ids(n=6), "item_ids: got 0 arrays for 6 ids; expected one of numbers, texts and rows"),
    ):
        refused(message, "engine_score", handle, byref(requests), byref(ids), address(scores))
    for changed, message in (
        ({"stages": 3}, r"requests\.stages: got 3; expected 1, 2, or 0"),
        ({"top_n": 0}, "top_n: got 0; expected at least 1"),
        ({"n_requests": 2**62, "top_n": 8}, "top_n: got 8 for 4611686018427387904 queries"),
        ({"struct_size": 8}, r"requests\.struct_size: got 8"),
    ):
        wrong = requests_of(history, 2, 3)
        for name, value in changed.items():
            setattr(wrong, name, value)
        refused(message, "engine_score", handle, byref(wrong), byref(new_ids([100] * 6)),
                address(scores))  # fmt: skip


def test_wrong_requests_to_encode_are_named(engine):
    embeddings = np.empty((1, 8), np.float32)
    for columns, top_n, message in (
        ([column("hist", [[100]])], 1, "columns: name: got 'hist'; expected one of history, city"),
        ([], 0, "top_n: got 0; expected at least 1"),
    ):
        requests = requests_of(columns, 1, top_n)
        refused(message, "engine_encode_users", engine.handle, byref(requests),
                address(embeddings))  # fmt: skip


def test_two_stages_of_a_bundle_without_a_reranker_score_nothing(text_engine):
    requests, scores = requests_of([], 1, 1, stages=2), np.empty(1, np.float32)
    refused(r"requests\.stages: got 2, but text\.shortlist has no second stage; expected 1, or 0",
            "engine_score", text_engine.handle, byref(requests), byref(new_ids(["é100"])),
            address(scores))  # fmt: skip


def test_a_mask_of_another_moment_is_refused(bundle):
    requests = requests_of([], 1, 5)
    with CEngine(bundle.path) as engine:
        requests.filter = pointer(filter_of(allow_mask=np.ones(40)))
        engine.upsert([900], WAR)
        refused(r"filter\.mask_size: got 40; expected n_rows = 41", "engine_recommend",
                engine.handle, byref(requests), byref(POINTER(Answer)()))  # fmt: skip


def test_a_bundle_without_an_item_encoder_takes_vectors_alone(bundle, tmp_path):
    path = shutil.copytree(bundle.path, tmp_path / "again.shortlist")
    (path / "item_encoder.onnx").unlink()
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    del manifest["files"]["item_encoder.onnx"]
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with CEngine(path) as engine:
        message = r"again\.shortlist/item_encoder\.onnx: expected a file of the bundle, found no "
        refused(message, "engine_upsert", engine.handle, byref(new_ids([900])),
                columns_array(WAR), size(1), None, status=FILE_ERROR)  # fmt: skip
        engine.upsert([900], vectors=np.ones((1, 8), np.float32))
        assert engine.remove([900]) == 1


def test_a_graph_that_cannot_choose_its_stages_is_of_an_older_release(text_bundle, tmp_path):
    with BundleWriter(tmp_path / "old.shortlist") as writer:
        for file in text_bundle.path.iterdir():
            if file.name != "manifest.json":
                shutil.copy(file, writer.directory)
        shutil.copy(text_bundle.path / "user_encoder.onnx", writer.directory / "scorer.onnx")
        manifest = Bundle.open(text_bundle.path).manifest.to_dict()
        writer.write_manifest({key: v for key, v in manifest.items() if key != "files"})
        path = writer.commit()
    message = r"^old\.shortlist/recommend\.onnx: expected an optional input stages, found a graph"
    with pytest.raises(CError, match=message + " of an older release; export the run a") as caught:
        open_engine(path)
    assert caught.value.status == FILE_ERROR
    with pytest.raises(shortlist.BundleError, match=message):
        shortlist.load(path)
