"""House style section 6, line by line: what is accepted, and the type and text of each error."""

import numpy as np
import pytest

import shortlist
from shortlist import Index

RANDOM = np.random.default_rng(1)
ITEMS = RANDOM.normal(size=(50, 8)).astype(np.float32)
QUERIES = RANDOM.normal(size=(3, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def index():
    return Index(ITEMS, item_ids=np.arange(50) * 10)


def search(queries=QUERIES, **options):
    return Index(ITEMS, item_ids=np.arange(50) * 10).search(queries, **options)


# ---- not array-like of real numbers -> TypeError with name, got, fix ----


@pytest.mark.parametrize("name", ["vectors", "queries"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "got NoneType of dtype object; expected float16, float32"),
        ("text", "got str of dtype <U4; expected float16, float32"),
        (np.ma.masked_array(ITEMS), "got a masked array; expected real numbers; fill the mask"),
        (ITEMS.astype(object), "of dtype object; expected float16, float32"),
        (ITEMS.astype(complex), "of dtype complex128; expected float16, float32"),
        (ITEMS > 0, "of dtype bool; expected float16, float32"),
        (ITEMS.astype(np.longdouble), "of dtype float128; expected float16, float32"),
        ([[1.0], [1.0, 2.0]], "got list that is no array; pass a 2-D array"),
    ],
)
def test_not_real_numbers_is_a_type_error(name, value, message):
    call = Index if name == "vectors" else search
    with pytest.raises(TypeError) as error:
        call(value)
    assert str(error.value).startswith(f"{name}: ")
    assert message in str(error.value)


# ---- float16/32/64, integers, any strides, read-only, memmap -> accepted, never misread ----


def variants(array, tmp_path):
    wide = np.zeros((array.shape[0], array.shape[1] * 2), np.float32)
    wide[:, ::2] = array
    read_only = array.copy()
    read_only.flags.writeable = False
    mapped = np.memmap(tmp_path / "rows", np.float32, "w+", shape=array.shape)
    mapped[:] = array
    yield "sliced", wide[:, ::2]
    yield "reversed", array[::-1][::-1]
    yield "Fortran order", np.asfortranarray(array)
    yield "read-only", read_only
    yield "big-endian", array.astype(">f4")
    yield "memmap", mapped
    yield "float64", array.astype(np.float64)
    yield "list", array.tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_layout_is_read_right(tmp_path):
    expected = search()
    for name, items in variants(ITEMS, tmp_path):
        hits = Index(items, item_ids=np.arange(50) * 10).search(QUERIES)
        assert np.array_equal(hits.item_ids, expected.item_ids), name
    for name, queries in variants(QUERIES, tmp_path):
        hits = search(queries)
        assert np.array_equal(hits.item_ids, expected.item_ids), name
        assert hits.scores.tobytes() == expected.scores.tobytes(), name


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_every_number_type_is_accepted(dtype):
    items = (ITEMS * 10).astype(np.int64).clip(0, 100).astype(dtype)
    hits = Index(items, metric="dot").search(items[:2])
    expected = Index(items.astype(np.float32), metric="dot").search(items[:2].astype(np.float32))
    assert np.array_equal(hits.indices, expected.indices)
    assert hits.scores.tobytes() == expected.scores.tobytes()


def test_numbers_beyond_float32_are_refused():
    with pytest.raises(ValueError, match="vectors: row 1 holds a number beyond the float32 range"):
        Index(np.array([[1.0], [1e300]]))


# ---- ndim, dim ----


@pytest.mark.parametrize("shape", [(8,), (2, 3, 8), (5, 0)])
@pytest.mark.parametrize("name", ["vectors", "queries"])
def test_wrong_shape_shows_the_shape(name, shape):
    call = Index if name == "vectors" else search
    with pytest.raises(ValueError, match=f"{name}: got shape ") as error:
        call(np.zeros(shape, np.float32))
    assert str(shape) in str(error.value)
    assert "expected (n, dim) with dim >= 1" in str(error.value)


def test_dim_mismatch_shows_both(index):
    with pytest.raises(ValueError, match="queries: got dim 7; the index has dim 8"):
        index.search(np.zeros((1, 7), np.float32))


# ---- top_n, n_threads ----


@pytest.mark.parametrize("value", [True, 1.0, "3", None])
@pytest.mark.parametrize("name", ["top_n", "n_threads"])
def test_counts_must_be_ints(index, name, value):
    with pytest.raises(TypeError, match=rf"{name}: got {value!r} of type \w+; expected an int"):
        index.search(QUERIES, **{name: value})


@pytest.mark.parametrize(("name", "value"), [("top_n", 0), ("top_n", -5), ("n_threads", -1)])
def test_counts_must_not_be_small(index, name, value):
    with pytest.raises(ValueError, match=f"{name}: got {value}; expected an int >="):
        index.search(QUERIES, **{name: value})


def test_top_n_beyond_the_catalogue_gives_short_rows(index):
    hits = index.search(QUERIES, top_n=53)
    assert (hits.counts == 50).all()
    assert (hits.item_ids[:, 50:] == -1).all()
    assert (hits.indices[:, 50:] == -1).all()
    assert np.isneginf(hits.scores[:, 50:]).all()


def test_impossible_top_n_is_an_error_not_a_crash(index):
    for top_n in (2**24, 10**10, 2**61, 10**23):
        with pytest.raises(ValueError, match=rf"top_n: got {top_n} for 3 queries; .* has 50 rows"):
            index.search(QUERIES, top_n=top_n)


def test_missing_string_ids_are_empty_strings():
    hits = Index(np.eye(2), item_ids=["a", "b"]).search(np.eye(2), top_n=3)
    assert hits.item_ids.tolist() == [["a", "b", ""], ["b", "a", ""]]


# ---- empty ----


def test_no_queries_gives_an_empty_result(index):
    hits = index.search(np.empty((0, 8)), top_n=4)
    assert hits.item_ids.shape == hits.scores.shape == hits.indices.shape == (0, 4)
    assert hits.counts.shape == (0,)


def test_no_items_gives_missing_places():
    hits = Index(np.empty((0, 8))).search(QUERIES, top_n=2)
    assert (hits.item_ids == -1).all()
    assert (hits.counts == 0).all()
    assert np.isneginf(hits.scores).all()


# ---- NaN and infinity ----


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_names_the_first_bad_row(index, value):
    items, queries = ITEMS.copy(), QUERIES.copy()
    items[7, 3] = items[9, 0] = queries[1, 2] = value
    with pytest.raises(ValueError, match="vectors: row 7 holds a NaN or an infinity"):
        Index(items)
    with pytest.raises(ValueError, match="queries: row 1 holds a NaN or an infinity"):
        index.search(queries)
    with pytest.raises(ValueError, match="queries: row 1 holds a NaN or an infinity"):
        index.search(queries.astype(np.float64))


def test_bad_row_is_counted_over_chunks():
    items = np.ones((70_000, 1), np.float64)
    items[69_999] = np.nan
    with pytest.raises(ValueError, match="vectors: row 69999 holds"):
        Index(items)


# ---- zero rows: test_levels.py; metric and ids here ----


@pytest.mark.parametrize("storage", ["f16", None, 16, "FLOAT32"])
def test_unknown_storage_lists_the_storages(storage):
    message = (
        r"storage: got .*; expected one of float32, float16, bfloat16, int8, disk8, disk4, int4"
    )
    with pytest.raises(ValueError, match=message):
        Index(ITEMS, storage=storage)


def test_a_dim_that_int8_cannot_scan_is_refused():
    assert len(Index(np.ones((2, 32768)), storage="int8")) == 2
    with pytest.raises(
        ValueError, match="vectors: got dim 32769; storage int8 takes at most 32768"
    ):
        Index(np.ones((2, 32769)), storage="int8")


@pytest.mark.parametrize("metric", ["l2", None, 3])
def test_unknown_metric_lists_the_metrics(metric):
    with pytest.raises(ValueError, match=r"metric: got .*; expected one of cosine, dot, euclidean"):
        Index(ITEMS, metric=metric)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (np.arange(49), ValueError, "got 49 ids for 50 rows of vectors; expected one id per row"),
        ([1, 1, *range(2, 50)], ValueError, "got 1 twice, in rows 0 and 1; expected unique"),
        (["a"] * 50, ValueError, "got 'a' twice, in rows 0 and 1; expected unique ids"),
        (np.zeros((50, 1), int), ValueError, r"got shape \(50, 1\); expected one dimension"),
        (np.arange(50.0), TypeError, "got dtype float64; expected int64 or str ids"),
        (["a"] * 49 + [None], TypeError, "got NoneType None at position 49; expected int64 or"),
        ("abc", TypeError, "got one str; expected a 1-D array of ids"),
        (
            np.arange(50).astype(np.uint64) + 2**63,
            ValueError,
            r"got \d+; expected ids that fit in int64",
        ),
    ],
)
def test_bad_item_ids(ids, error, message):
    with pytest.raises(error, match=f"item_ids: {message}"):
        Index(ITEMS, item_ids=ids)


def test_internal_errors_are_not_hidden(index):
    """The core repeats the checks that keep memory safe, even when the front is bypassed."""
    view = index._core.view()
    splits = np.array([0, 5, 3, 9])
    with pytest.raises(ValueError, match="exclude: row_splits must ascend"):
        view.search(QUERIES, 1, (np.arange(9), splits), None, None, None, 1)
    with pytest.raises(ValueError, match="exclude: got row 99; the index has 50 rows"):
        view.search(QUERIES, 1, (np.array([99]), np.array([0, 1, 1, 1])), None, None, None, 1)
    with pytest.raises(ValueError, match="allow: mask length"):
        view.search(QUERIES, 1, None, None, None, np.ones(3, bool), 1)


def test_build_info_is_what_a_report_needs():
    info = shortlist.build_info()
    assert {"version", "compiler", "build_type", "simd_level", "numpy"} <= info.keys()
    assert info["simd_level"] == shortlist.simd_level()
    assert info["holds"] == "index, engine, ONNX Runtime operators"
    assert info["library"] == shortlist.plugin_path()
    assert info["onnxruntime_api"] == "17 or newer"
