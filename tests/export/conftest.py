"""A run that was never trained: random weights are as good as any to compare Keras and a bundle."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shortlist.training.config.settings import apply_overrides, from_toml
from shortlist.training.data.events import Dataset
from shortlist.training.features.features import FeatureSet
from shortlist.training.features.fitting import RESERVED_IN_GRAPHS
from shortlist.training.fit.fit import TrainedModel, build_model
from shortlist.training.fit.second_stage import RerankerReport, fit_followers, fit_tables
from shortlist.training.models.candidates import CandidateScorer
from shortlist.training.models.followers import FollowerScorer
from shortlist.training.models.linear import is_closed_form
from shortlist.training.splits.split import make_split

N_USERS, N_ITEMS = 60, 90
CONFIG = """
[model]
dim = 16
hidden = 24
history_length = 8
[scorer]
hidden = [6]
activation = "gelu"
[export]
parity_users = 50
parity_top_n = 10
"""


def make_dataset(text_ids, with_tables=True):
    random = np.random.default_rng(4)
    items = [f"film-é{i}" if text_ids else 3 * i - 8 for i in range(N_ITEMS)]
    users = [f"用户{i}" if text_ids else 1000 - i for i in range(N_USERS)]
    rows = [
        (user, items[item], 100 * place + number)
        for number, user in enumerate(users)
        for place, item in enumerate(random.permutation(N_ITEMS - 3)[: random.integers(2, 15)])
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    events = events.with_columns(
        pl.lit("event").alias("kind"), pl.lit(None, pl.Float32).alias("value")
    )
    item_table = pl.DataFrame(
        {
            "item_id": items[:-5],  # five items are known from nowhere but (perhaps) events
            "title": [f"Film {i}" if i % 4 else None for i in range(N_ITEMS - 5)],
            "genres": [[["drama"], ["war", "科幻"], [], None][i % 4] for i in range(N_ITEMS - 5)],
            "year": [1950 + i if i % 7 else None for i in range(N_ITEMS - 5)],
        }
    )
    user_table = pl.DataFrame(
        {
            "user_id": users[3:],
            "age": [20.0 + i if i % 5 else float("nan") for i in range(N_USERS - 3)],
            "city": [["Köln", "北京", None][i % 3] for i in range(N_USERS - 3)],
            "level": [[1, 2, 3][i % 3] for i in range(N_USERS - 3)],
            "likes": [[["a", "b"], [], None][i % 3] for i in range(N_USERS - 3)],
        }
    )
    return Dataset(
        "toy", events, item_table if with_tables else None, user_table if with_tables else None
    )


def make_run(
    *,
    text_ids=False,
    with_tables=True,
    with_scorer=False,
    run_dir=Path("toy.run"),
    reranker="dnn",
    overrides=None,
    dataset=None,
):
    dataset = make_dataset(text_ids, with_tables) if dataset is None else dataset
    config = from_toml(CONFIG + ('[data.features]\nlevel = "categorical"\n' * with_tables))
    config = apply_overrides(config, {"scorer.kind": reranker, **(overrides or {})})
    split = make_split(dataset, "leave-one-out")
    features = FeatureSet.fit(dataset, split, config)
    two_tower = build_model(config, features, dataset, split)
    random = np.random.default_rng(5)
    if is_closed_form(config):
        vectors = random.normal(0, 0.1, (two_tower.n_items, two_tower.dim))
        two_tower.fill(vectors.astype(np.float32))
    else:  # zero biases would be dropped by the converter: no zeros
        weights = two_tower.get_weights()
        two_tower.set_weights(
            {k: v + random.normal(0, 0.05, v.shape).astype(np.float32) for k, v in weights.items()}
        )
    run = TrainedModel(config, features, split, two_tower, None, [], run_dir)
    if with_scorer:
        if reranker == "followers":
            run.scorer = FollowerScorer(config.scorer, fit_followers(split, config.scorer))
        else:
            run.scorer = CandidateScorer(config.scorer, fit_tables(split, config.scorer))
        run.reranker_report = RerankerReport(
            kind=reranker,
            is_kept=True,
            n_candidates=config.scorer.n_candidates,
            history_length=config.scorer.history_length,
            ndcg_at_10_without=0.1,
            ndcg_at_10_with=0.2,
        )
    return run


@pytest.fixture(scope="package")
def make_any_run():
    """Make a run of an encoder with a kind of reranker, or none."""

    def make(encoder, reranker=None, overrides=None):
        return make_run(
            with_scorer=reranker is not None,
            reranker=reranker or "dnn",
            overrides={"model.encoder": encoder, **(overrides or {})},
        )

    return make


@pytest.fixture(scope="package")
def run():
    """Integer ids, both tables, a scorer."""
    return make_run(with_scorer=True)


@pytest.fixture(scope="package")
def text_run():
    """String ids, both tables."""
    return make_run(text_ids=True)


ODD_NAMES = (
    *("Price (USD)", "price usd", "price_usd", "Größe", "色", "a.b", "a:0", "_hidden", "1st"),
    *(
        "training",
        "inputs",
        "mask",
        "batch",
        "width",
        "value",
        "kind",
        "x" * 120,
        "%s {0} '\"",
        "\\",
    ),
    *("item_ids", "scores", "source", "user_encoder", "identity", "profile", "content", "id_table"),
)
IGNORED_NAMES = ("", "price/usd", "line\nend")


@pytest.fixture(scope="package")
def odd_run():
    """Columns named as spreadsheets name them, tags and numbers in turn; some are no features."""
    dataset = make_dataset(text_ids=False)
    reserved = RESERVED_IN_GRAPHS["user"]
    tables = {}
    for side, names in (
        ("items", ODD_NAMES),
        ("users", [name for name in ODD_NAMES if name not in reserved]),
    ):
        table = getattr(dataset, side)
        row = pl.int_range(pl.len())
        columns = [
            (row * (i + 3) % 7 + 0.5 if i % 2 else pl.concat_list((row % (i + 2)).cast(pl.String)))
            for i in range(len(names))
        ]
        bad = [row.alias(name) for name in IGNORED_NAMES]
        tables[side] = table.with_columns(
            *(column.alias(name) for column, name in zip(columns, names, strict=True)), *bad
        )
    ignored = {f"{side}.{name}": "ignore" for side in ("item", "user") for name in IGNORED_NAMES}
    features = {"level": "categorical", **ignored}
    return make_run(
        dataset=dataclasses.replace(dataset, **tables),
        overrides={"data.features": features},
    )


@pytest.fixture(scope="package")
def plain_run():
    """Events only."""
    return make_run(with_tables=False)
