"""What a party counts of its events, and the model that is made of the total."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import sparse

from shortlist.errors import DataError
from shortlist.export.released import save_federated
from shortlist.training.config.sections import EventsConfig
from shortlist.training.features.features import FeatureSet
from shortlist.training.fit import checkpoint, fit
from shortlist.training.fit.second_stage import count_split_followers
from shortlist.training.models.baselines import Counted, signals
from shortlist.training.models.followers import Followers
from shortlist.training.models.linear import LinearModel, build_baseline
from shortlist.training.models.sums import STEPS
from shortlist.training.privacy.walks import FEDERATED, draw_walks, walks_dataset
from shortlist.training.splits.split import configured_split, leave_one_out

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config.sections import Config
    from shortlist.training.data.arrays import Rows
    from shortlist.training.data.events import Dataset
    from shortlist.training.fit.fit import TrainedModel

N_WALKS, LENGTH = 1_000, 30  # that stand for users in the checks of the export
EVENTS, FOLLOWS = "events", "follows"  # sums of every plan, beside those of its model


def count_sums(dataset: Dataset, config: Config) -> dict[str, Rows]:
    """Add up what a plan asks for over the users of one party.

    Parameters
    ----------
    dataset : Dataset
        Its item table is the catalogue of the plan.
    config : Config
        Of the plan.

    Returns
    -------
    dict of str to ndarray, int64
        As `shapes_of` says; the pairs in whole steps.
    """
    split = leave_one_out(dataset, config.events)
    n_items, model = len(split.catalogue), _model(config)
    used = signals(split.train, split.catalogue, split.weights(split.train))
    targets = split.item_rows(split.target_events("train")["item_id"])
    sums = model.count(*used, n_items)
    sums[EVENTS] = np.bincount(targets, minlength=n_items).astype(np.int64)
    sums[FOLLOWS] = count_split_followers(split, config.scorer)
    return {name: _dense(values) for name, values in sums.items()}


def shapes_of(config: Config, n_items: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each sum that a plan asks for."""
    nobody = np.empty(0, np.int64)
    sums = _model(config).count(nobody, nobody, np.empty(0), n_items)
    shapes = {name: tuple(values.shape) for name, values in sums.items()}
    return {**shapes, EVENTS: (n_items,), FOLLOWS: (n_items, n_items)}


def train_total(
    total: dict[str, Rows],
    items: pl.DataFrame,
    config: Config,
    run_dir: Path,
    record: dict[str, Any],
) -> TrainedModel:
    """Make the model of the sums over all parties.

    Parameters
    ----------
    total : dict of str to ndarray, int64
        As `shapes_of` says.
    items : polars.DataFrame
        The catalogue.
    config : Config
        Of the plan.
    run_dir : Path
        New or empty.
    record : dict
        What the manifest says of the federation.
    """
    started = time.perf_counter()
    popular = np.maximum(total[EVENTS].astype(np.float64), 0.5)
    model = _model(config).solve({k: v for k, v in total.items() if k not in (EVENTS, FOLLOWS)})
    vectors = model.item_vectors()
    config = replace(config, events=EventsConfig())  # walks are of one kind
    dataset = _walked(vectors, popular, items, config)
    split = configured_split(dataset, config)
    features = FeatureSet.fit(dataset, split, config)
    checkpoint.open_run_folder(run_dir, dataset, config, features, False)
    linear = LinearModel(config, features)
    linear.fill(vectors)
    row = {"epoch": 1, "seconds": round(time.perf_counter() - started, 3), "is_best": False}
    checkpoint.write_lines(run_dir / "metrics.jsonl", [row])
    followers = Followers.of(sparse.csr_matrix(total[FOLLOWS]) / STEPS)
    save_federated(run_dir, record, total[EVENTS], followers)
    return fit.finish(linear, [row], split, run_dir, progress=False)


def _model(config: Config) -> Counted:
    model = build_baseline(config)
    assert isinstance(model, Counted)
    return model


def _dense(values: Any) -> Rows:
    dense: Rows = values.toarray() if sparse.issparse(values) else values
    return dense


def _walked(
    vectors: NDArray[np.float32], popular: NDArray[np.float64], items: pl.DataFrame, config: Config
) -> Dataset:
    """Draw histories for the checks of the export, in place of users that nobody has."""
    n_items = items.height
    if n_items < 2:
        raise DataError(f"items: got {n_items} in the catalogue, expected at least 2")
    nothing = np.broadcast_to(np.float32(0), (n_items, n_items))
    walks = draw_walks(
        vectors[:, 1:].T if vectors.shape[1] > 1 else nothing,
        popular,
        n_walks=N_WALKS,
        length=LENGTH,
        decay=config.linear.decay_age,
        seed=config.train.seed,
    )
    return replace(walks_dataset(walks, items, pl.String()), name=FEDERATED)
