"""Make the bundle of `shortlist.datasets.example_bundle()` from generated data.

python examples/make_example_bundle.py [OUT]    # default: python/shortlist/datasets/books.shortlist

Needs the extra [train]. Run it when the format of bundles changes.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

import shortlist.training
from shortlist.training.pipeline.train_report import TrainReport

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "python" / "shortlist" / "datasets" / "books.shortlist"
N_VOLUMES = 6
SERIES = {
    "Winter Garden": ["romance", "history"],
    "Salt Road": ["history"],
    "Harbour Inn": ["romance"],
    "Silent Tide": ["crime"],
    "Glass Key": ["crime", "history"],
    "Last Witness": ["crime"],
    "Copper Moon": ["fantasy", "romance"],
    "Dragon Coast": ["fantasy"],
}
# One name a reader, so that the examples of the documentation can be read.
NAMES = (
    "ada ben cleo dan eva finn gwen hugo ida jan kim leo mia noah olga paul quinn rosa sam tess "
    "uma vera will xenia yara zoe anna bert cora dora emil fred greta hans iris jack kara lars "
    "mona nils oscar petra rick sara tom ulla victor wanda yves anton bella carl diana erik flora "
    "gina heidi ivan julia karl"
)
READERS = NAMES.split()
CITIES = ("Bergen", "Lisbon", "Zürich")
SETTINGS = {
    "model.dim": 16,
    "model.hidden": 16,
    "model.history_length": 10,
    "model.dropout": 0.0,
    "train.epochs": 30,
    "train.batch_size": 64,
    "train.learning_rate": 0.02,
    "train.warmup_steps": 10,
    "train.n_threads": 1,
    "data.features.user.age": "numeric",
    "data.features.history": {"kind": "history"},
}


def book_id(series: str, volume: int) -> str:
    return f"{series.lower().replace(' ', '-')}-{volume}"


def make_tables() -> dict[str, pl.DataFrame]:
    """Return the events, items and users of the book shop; the same each time."""
    rng = np.random.default_rng(7)
    books = [(series, volume) for series in SERIES for volume in range(1, N_VOLUMES + 1)]
    items = pl.DataFrame(
        {
            "item_id": [book_id(*book) for book in books],
            "title": [f"{series}, volume {volume}" for series, volume in books],
            "genres": [SERIES[series] for series, _ in books],
            "year": [2010 + int(rng.integers(0, 4)) + volume for _, volume in books],
            "price": [round(float(rng.uniform(8, 20)), 2) for _ in books],
        }
    )
    users = pl.DataFrame(
        {
            "user_id": READERS,
            "city": [CITIES[int(rng.integers(0, 3))] for _ in READERS],
            "age": [int(rng.integers(16, 80)) for _ in READERS],
        }
    )
    rows = []
    for reader in READERS:
        when = 1_735_689_600 + int(rng.integers(0, 100 * 86_400))  # from 1 January 2025 on
        for series in rng.choice(list(SERIES), 3, replace=False):
            for volume in range(1, int(rng.integers(3, N_VOLUMES + 1)) + 1):
                when += int(rng.integers(1, 9) * 86_400)
                kind = "buy" if rng.random() < 0.6 else "view"
                rows.append((reader, book_id(series, volume), when, kind))
    names = ["user_id", "item_id", "timestamp", "kind"]
    return {
        "events": pl.DataFrame(rows, schema=names, orient="row"),
        "items": items,
        "users": users,
    }


def make_bundle(out: Path) -> TrainReport:
    """Train on the book shop and write the bundle."""
    with tempfile.TemporaryDirectory() as folder:
        return shortlist.training.train(
            **make_tables(),
            out=out,
            settings=SETTINGS,
            run_dir=Path(folder) / "run",
            progress=False,
        )


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    if target.exists():
        shutil.rmtree(target)
    print(make_bundle(target))
    print(sum(path.stat().st_size for path in target.iterdir()), "bytes")
