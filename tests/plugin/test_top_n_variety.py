"""The inputs of ai.shortlist.TopN that vary lists: the answers of Index.search, and errors."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import shortlist
from shortlist import Index
from shortlist.export.tensors import index_bytes

DIM, N_ITEMS, N = 10, 400, 70  # more queries than one task of the operator
TYPES = {
    "use_fallback": TensorProto.BOOL,
    "at_most": TensorProto.INT64,
    "groups": TensorProto.INT32,
    "groups_splits": TensorProto.INT64,
    "at_least": TensorProto.INT64,
    "quotas": TensorProto.UINT8,
    "diversity": TensorProto.DOUBLE,
    "dampening": TensorProto.DOUBLE,
    "dampening_terms": TensorProto.DOUBLE,
}
INPUTS = ("queries", "top_n", "index", "exclude", "", "fallback_rows", "fallback_scores",
          "use_fallback", "", "", "", "", "", "", "", *list(TYPES)[1:])  # fmt: skip
RANDOM = np.random.default_rng(4)
BRAND = RANDOM.integers(-1, 30, size=N_ITEMS)
GENRES = RANDOM.integers(0, 9, size=2 * N_ITEMS)
GENRE_SPLITS = np.sort(np.append(RANDOM.integers(0, 2 * N_ITEMS, N_ITEMS - 1), [0, 2 * N_ITEMS]))
IS_NEW = RANDOM.random((2, N_ITEMS)) < 0.02
TERMS = np.log1p(RANDOM.integers(0, 500, size=N_ITEMS))
QUERIES = RANDOM.normal(size=(N, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("variety")


@pytest.fixture(scope="module")
def index(folder):
    made = Index(RANDOM.normal(size=(N_ITEMS, DIM)).astype(np.float32))
    made.save(folder / "items.index")
    return made


@pytest.fixture(scope="module")
def run(folder, index):
    """Run a graph of one node: given some inputs, the others have no values."""
    info = helper.make_tensor_value_info
    types = {"queries": TensorProto.FLOAT, "fallback_scores": TensorProto.FLOAT} | TYPES
    names = [name for name in INPUTS if name not in ("", "index")]
    outputs = {name: TensorProto.INT64 for name in ("rows", "scores", "counts", "codes", "missing")}
    outputs["scores"] = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("TopN", list(INPUTS), list(outputs), domain="ai.shortlist")],
        "search",
        [info(name, types.get(name, TensorProto.INT64), None) for name in names],
        [info(name, kind, None) for name, kind in outputs.items()],
        initializer=[index_bytes(folder, "index")],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.shortlist", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "g.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(shortlist.plugin_path())
    session = onnxruntime.InferenceSession(folder / "g.onnx", options)
    numbers = {name: helper.tensor_dtype_to_np_dtype(kind) for name, kind in TYPES.items()}

    def call(**given):
        feeds = {name: np.empty(0, kind) for name, kind in numbers.items()}
        feeds |= {"queries": QUERIES, "top_n": np.array(6), "exclude": np.full((N, 1), 5)}
        feeds |= {"fallback_rows": np.arange(20, 60), "fallback_scores": np.ones(40, np.float32)}
        feeds["use_fallback"] = np.zeros(N, np.bool_)
        given = {name: np.asarray(value, numbers[name]) for name, value in given.items()}
        return session.run(None, feeds | given)

    return call


def each(name, numbers):
    return [{name: int(number)} for number in numbers]


MOST = np.arange(N) % 3
WEIGHT = (np.arange(N) % 5) / 4
GROUPS = {"brand": BRAND, "genre": (GENRES, GENRE_SPLITS), "new": IS_NEW[0], "rare": IS_NEW[1]}
BOTH_SPLITS = np.concatenate([np.arange(N_ITEMS), N_ITEMS + GENRE_SPLITS])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"at_most": [2], "groups": BRAND[None]}, {"at_most": {"brand": 2}}),
        (
            {"at_most": MOST[:, None], "groups": BRAND},
            {"at_most": [{"brand": int(m)} if m else None for m in MOST]},
        ),
        (
            {
                "at_most": [1, 3],
                "groups": np.concatenate([BRAND, GENRES]),
                "groups_splits": BOTH_SPLITS,
            },
            {"at_most": {"brand": 1, "genre": 3}},
        ),
        ({"at_least": [2, 5], "quotas": IS_NEW}, {"at_least": {"new": 2, "rare": 5}}),
        ({"diversity": [0.4]}, {"diversity": 0.4}),
        ({"diversity": WEIGHT}, {"diversity": WEIGHT}),
        (
            {"dampening": WEIGHT / 50, "dampening_terms": TERMS},
            {"popularity_dampening": WEIGHT / 50, "popularity": np.expm1(TERMS).round()},
        ),
        (
            {
                "diversity": [0.6],
                "at_most": [1],
                "groups": BRAND,
                "at_least": [3],
                "quotas": IS_NEW[:1],
            },
            {"diversity": 0.6, "at_most": {"brand": 1}, "at_least": {"new": 3}},
        ),
    ],
)
def test_lists_are_those_of_the_index_bit_for_bit(run, index, given, expected):
    rows, scores, counts, codes, missing = run(**given)
    groups = {name: GROUPS[name] for name in GROUPS}
    found = index.search(QUERIES, 6, exclude=[[5]] * N, groups=groups, **expected)
    assert np.array_equal(rows, found.indices)
    assert scores.tobytes() == found.scores.tobytes()
    assert np.array_equal(counts, found.counts)
    assert np.array_equal(codes, rows + 1)
    unmet = list(getattr(found, "unmet", {}).values())
    assert np.array_equal(missing, np.stack(unmet, axis=1) if unmet else np.zeros((N, 0)))


def test_popular_items_keep_to_caps_and_quotas(run):
    use = np.arange(N) == 0
    rows, _, _, _, missing = run(
        use_fallback=use,
        at_most=[1],
        groups=BRAND,
        at_least=[2],
        quotas=IS_NEW[:1],
        diversity=[0.5],
    )
    brands = BRAND[rows[0]]
    assert set(rows[0]) <= set(range(20, 60))
    assert len(set(brands[brands >= 0])) == (brands >= 0).sum()
    assert missing[0, 0] == max(0, 2 - IS_NEW[0, rows[0]].sum())
    plain = run()[0]
    assert not np.array_equal(rows[1:], plain[1:])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"at_most": [2]}, r"groups: got shape \(0\), expected \(1, 400\)"),
        ({"at_most": [-1], "groups": BRAND}, "at_most: got -1, expected 0, for any number, to"),
        ({"at_most": [[1]], "groups": BRAND}, r"at_most: got shape \(1, 1\), expected a number f"),
        ({"at_most": [1], "groups": BRAND, "groups_splits": [0, 400]},
         r"groups_splits: got shape \(2\), expected \(401,\): one more than columns times rows"),
        ({"at_most": [1], "groups": BRAND + 5000}, "groups: got the value 5029 in an index of 400"),
        ({"at_least": [7], "quotas": IS_NEW[:1]}, "at_least: got 7, expected 0, for any .*, to 6"),
        ({"at_least": [1, 1], "quotas": IS_NEW[:1]}, r"quotas: got shape .*expected \(2, 400\)"),
        ({"diversity": [1.5]}, "diversity: got 1.5.*, expected a number from 0 to 1"),
        ({"diversity": [np.nan]}, "diversity: got .*nan, expected a number from 0 to 1"),
        ({"diversity": [0.1, 0.2]}, r"diversity: got shape \(2\), expected one number, or \(70,\)"),
        ({"dampening": [0.1]}, r"dampening_terms: got shape \(0\), expected \(1, 400\)"),
        ({"dampening": [0.1], "dampening_terms": -TERMS}, "dampening_terms: got -.* of 0 or more"),
        ({"dampening": [0.1], "dampening_terms": TERMS, "diversity": [0.1]},
         "dampening: got it beside diversity for query 0, expected one of them"),
    ],
)  # fmt: skip
def test_a_wrong_wish_is_named(run, given, message):
    with pytest.raises(Exception, match=message):
        run(**given)
    assert run()[2].tolist() == [6] * N
