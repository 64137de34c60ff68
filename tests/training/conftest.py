"""A small shop whose users walk through the items in order, so that a model can learn it."""

import numpy as np
import polars as pl
import pytest

from shortlist.training.config.sections import Config
from shortlist.training.config.settings import load_config
from shortlist.training.data.events import Dataset

N_USERS, N_ITEMS = 40, 30


def make_shop(n_users: int = N_USERS, n_items: int = N_ITEMS, n_events: int = 12) -> Dataset:
    rng = np.random.default_rng(5)
    start = rng.integers(0, n_items, n_users)
    steps = np.arange(n_events)
    items = (start[:, None] + steps) % n_items
    events = pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in np.repeat(np.arange(n_users), n_events)],
            "item_id": [f"i{i}" for i in items.ravel()],
            "timestamp": np.tile(1_000 + steps, n_users),
            "kind": "event",
            "value": rng.integers(1, 6, n_users * n_events).astype(np.float32),
        }
    )
    item_table = pl.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(n_items)],
            "title": [f"Title {i}" for i in range(n_items)],
            "tags": [["all", f"group{i % 5}"] for i in range(n_items)],
            "price": [float(i) for i in range(n_items)],
        }
    )
    users = pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in range(n_users)],
            "city": [["Zürich", "東京", "", None][u % 4] for u in range(n_users)],
            "age": [[20.0, 30.0, None, float("nan")][u % 4] for u in range(n_users)],
        }
    )
    return Dataset("shop", events, item_table, users)


@pytest.fixture(scope="session")
def shop() -> Dataset:
    return make_shop()


@pytest.fixture(scope="session")
def small_config() -> Config:
    return load_config(
        overrides={
            "model.dim": 8,
            "model.hidden": 16,
            "model.history_length": 6,
            "train.batch_size": 64,
            "train.n_targets": 4,
            "train.epochs": 6,
            "train.learning_rate": 0.03,
            "train.warmup_steps": 2,
        }
    )


@pytest.fixture(scope="session")
def spoilt():
    """Give a function in place of `go_on`: it trains on, then mixes the items up."""
    from shortlist.training.fit.warm_start import go_on  # TensorFlow, for the tests that train

    def train_and_spoil(*args, **options):
        run = go_on(*args, **options)
        table = run.two_tower.item_encoder.id_table
        table.assign(np.random.default_rng(0).permutation(table.numpy()))
        run.two_tower.refresh()
        return run

    return train_and_spoil
