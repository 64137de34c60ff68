"""The bundles of the table, and how its ids are written: item row r of a bundle has id 100 + r."""

import numpy as np
import pyarrow as pa
from tiny_graphs import make_feature, table
from worlds import N_ITEMS, STORED_FEATURES, USER_FEATURES, arrow_type, ids_of

NEW, OTHER_NEW, STRANGE = 900, 901, 7  # ids of no bundle
TWINS = [3, 8, 9, 21, 30]  # rows of `twins` with one and the same vector
ZERO = 12  # a row of `twins` whose vector is zero


def items(*rows):
    """Item ids of a bundle with numbers."""
    return [100 + row for row in rows]


def texts(*rows):
    """Item ids of a bundle with texts."""
    return ids_of(items(*rows), "string")


def users(dtype="int64", events=False, **features):
    """users.arrow: two with histories, one without, one of strange items, one of many.

    `features`: columns of five values; otherwise those of the tiny bundle.
    """
    histories = [[0, 1, 2], [3, 4, 5, 6], [], [-93, -94], [*range(20, 32), -93, 33]]
    ids = [ids_of(items(*rows), dtype) for rows in histories]
    columns = {
        "user_id": pa.array(ids_of([5, 9, 12, 20, 21], dtype), arrow_type(dtype)),
        "history": pa.array(ids, pa.list_(arrow_type(dtype))),
    }
    if events:
        kinds = [["view", "purchase", ""][: len(rows)] if len(rows) < 4 else
                 [["view", "gift", "purchase"][i % 3] for i in range(len(rows))]
                 for rows in histories]  # fmt: skip
        times = [[1000 + 50_000 * i for i in range(len(rows))] for rows in histories]
        columns["history_kinds"] = pa.array(kinds, pa.list_(pa.string()))
        columns["history_times"] = pa.array(times, pa.list_(pa.int64()))
    default = {name: [*column, None, None] for name, column in STORED_FEATURES.items()}
    return pa.table(columns | (features or default))


def twin_vectors():
    vectors = table("item_id", N_ITEMS + 1)[1:].copy()
    vectors[TWINS] = vectors[TWINS[0]]
    vectors[ZERO] = 0
    return vectors


EVERY_KIND = [
    *USER_FEATURES,
    make_feature("plan", "categorical", "string", ["free", "gold"], missing="own"),
    make_feature("bio", "text", "string", word_ngrams=1, char_ngrams=0, buckets=64),
    make_feature("joined", "timestamp", "int64", mean=2.0, std=1.5, reference=1_700_000_000,
                 parts=("age",)),
    make_feature("face", "vector", "float32", width=3),
]  # fmt: skip
STORED_KINDS = {
    **{name: [*column, None, None] for name, column in STORED_FEATURES.items()},
    "plan": ["gold", None, "free", "", None],
    "bio": ["likes red lamps", "", None, None, None],
    "joined": pa.array([1_690_000_000, None, 1_600_000_000, None, None], pa.int64()),
    "face": pa.array([[3.0, 0.0, 4.0], None, None, None, [0.0, 0.0, 1.0]], pa.list_(pa.float32())),
}
DISLIKES = {"events": {"negative_kinds": ["hide"], "negative_below": 2.0}}


def plan(**options):
    """What `make_world` takes; unless it says otherwise: no reranker, users with features."""
    options.setdefault("numbers", items(*range(N_ITEMS)))
    options.setdefault("scorer", None)
    if options.get("with_users", True) and "stored" not in options:
        options["stored"] = users(options.get("dtype", "int64"), options.get("has_events", False))
    return options


def reranker(scorer, n_candidates, history_length):
    told = {"is_kept": True, "n_candidates": n_candidates, "history_length": history_length}
    return {"scorer": scorer, "second_stage": told}


# What a private bundle is: no users, noisy counts, a ledger.
LEDGER = {
    "epsilon": 8.0, "delta": 1e-5, "sigma": 0.6, "mechanism": "Gaussian noise",
    "generator": "os.urandom", "accountant": "dp-accounting 0.6.0",
    "steps": {"sigma": 1.5, "rate": 0.1, "n_steps": 300},
    "releases": [{"epsilon": 8.0, "delta": 1e-5, "sigma": 0.6,
                  "steps": {"sigma": 1.5, "rate": 0.1, "n_steps": 300}}],
}  # fmt: skip
NOISY_COUNTS = np.random.default_rng(4).normal(3.0, 4.0, N_ITEMS).clip(0.0)

alone = {"with_users": False, "user_features": False}
BUNDLES = {
    "plain": plan(**alone),
    "users": plan(training={"config": DISLIKES}),
    "texts": plan(dtype="string", **reranker("sums", 12, 4)),
    "network": plan(**reranker("sums", 12, 9)),  # it sees more of a history than the encoder
    "counts": plan(**reranker("followers", 15, 5)),
    "events": plan(has_events=True, features=[]),
    "events, reranked": plan(has_events=True, features=[], **reranker("sums", 12, 4)),
    "every kind": plan(features=EVERY_KIND, stored=users(**STORED_KINDS)),
    "recurrent": plan(has_state=True),
    "recurrent, texts": plan(dtype="string", has_state=True, with_users=False),
    "twins": plan(vectors=twin_vectors(), numbers=items(*range(N_ITEMS))[::-1],
                  with_users=False),
    "twins, reranked": plan(vectors=twin_vectors(), **reranker("followers", 5, 5)),
    "three scores": plan(**reranker("thirds", 12, 4)),
    "scored": plan(popular_scores=np.linspace(0, 3, N_ITEMS) % 1, **alone),
    "private": plan(popular_scores=NOISY_COUNTS, privacy=LEDGER, metrics={}, **alone),
    **{metric: plan(metric=metric) for metric in ("dot", "euclidean")},
    "float16": plan(storage="float16", metric="dot", **alone),
    "bfloat16": plan(storage="bfloat16", metric="euclidean", **alone),
    "int8": plan(storage="int8", metric="dot", **alone),
    "int8, cosine": plan(storage="int8", **alone),
    **{name: plan(storage=name) for name in ("disk8", "disk6", "disk4")},
    "int4": plan(storage="int4", metric="dot", **alone),
    "int4, cosine": plan(storage="int4", **alone),
    "compressed": plan(compressed=True, **reranker("sums", 12, 9)),
}  # fmt: skip
