"""What a party counts of its events, and the model that is made of the total."""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import sparse

from shortlist.errors import DataError
from shortlist.export.released import save_federated, save_release, write_federation
from shortlist.training.config.sections import EventsConfig
from shortlist.training.config.settings import apply_overrides
from shortlist.training.features.features import FeatureSet
from shortlist.training.fit import checkpoint, fit
from shortlist.training.fit.second_stage import count_split_followers
from shortlist.training.models.baselines import Counted, signals
from shortlist.training.models.followers import Followers
from shortlist.training.models.linear import LinearModel, build_baseline
from shortlist.training.models.sums import STEPS
from shortlist.training.pipeline.private import bounds_of, train_on
from shortlist.training.privacy.contributions import Sums, sum_contributions
from shortlist.training.privacy.noise import RandomBytes
from shortlist.training.privacy.release import (
    Claim,
    Release,
    add_steps,
    claim_of,
    ledger_of,
    undo_shares,
)
from shortlist.training.privacy.settings import is_private
from shortlist.training.privacy.walks import FEDERATED, draw_walks, walks_dataset
from shortlist.training.splits.split import configured_split, leave_one_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from shortlist.training.config.sections import Config
    from shortlist.training.data.arrays import Rows
    from shortlist.training.data.events import Dataset
    from shortlist.training.fit.fit import TrainedModel
    from shortlist.training.splits.parts import Split

N_WALKS, LENGTH = 1_000, 30  # that stand for users in the checks of the export
MECHANISM = (
    "Gaussian noise in shares of {} parties, of whom any one may be left out, on bounded sums"
)
EVENTS, FOLLOWS = "events", "follows"  # sums of every plan, beside those of its model


def count_sums(
    dataset: Dataset, config: Config, n_parties: int, *, source: RandomBytes = os.urandom
) -> dict[str, Rows]:
    """Add up what a plan asks for over the users of one party.

    Parameters
    ----------
    dataset : Dataset
        Its item table is the catalogue of the plan.
    config : Config
        Of the plan; with ``[privacy]`` contributions are bounded, and the party's share of the
        noise is added.
    n_parties : int
        Of the plan.
    source : callable
        Random bytes; only tests give others than the system's.

    Returns
    -------
    dict of str to ndarray, int64
        As `shapes_of` says; the pairs in whole steps.
    """
    split = leave_one_out(dataset, config.events)
    if is_private(config):
        return _private_sums(split, config, n_parties, source)
    n_items, model = len(split.catalogue), _model(config)
    used = signals(split.train, split.catalogue, split.weights(split.train))
    targets = split.item_rows(split.target_events("train")["item_id"])
    sums = model.count(*used, n_items)
    sums[EVENTS] = np.bincount(targets, minlength=n_items).astype(np.int64)
    sums[FOLLOWS] = count_split_followers(split, config.scorer)
    return {name: _dense(values) for name, values in sums.items()}


def shapes_of(config: Config, n_items: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each sum that a plan asks for."""
    if is_private(config):
        return {"counts": (n_items,), "pairs": (n_items * (n_items + 1) // 2,)}
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
    claim: Claim | None = None,
) -> TrainedModel:
    """Make the model of the sums over all parties.

    Parameters
    ----------
    total : dict of str to ndarray, int64
        As `shapes_of` says. What has been used is taken out, since it is large.
    items : polars.DataFrame
        The catalogue.
    config : Config
        Of the plan.
    run_dir : Path
        New or empty.
    record : dict
        What the manifest says of the federation.
    claim : Claim, optional
        What a plan with ``[privacy]`` promises.
    """
    if claim is not None:
        return _train_private(total, items, config, run_dir, record, claim)
    started = time.perf_counter()
    n_events = total.pop(EVENTS)
    followers = Followers.of(sparse.csr_matrix(total.pop(FOLLOWS)) / STEPS)
    vectors = _model(config).solve(total).item_vectors()
    total.clear()
    popular = np.maximum(n_events.astype(np.float64), 0.5)
    config = replace(config, events=EventsConfig())  # walks are of one kind
    weights = vectors[:, 1:].T if vectors.shape[1] > 1 else None
    dataset = walked(weights, popular, items, config)
    split = configured_split(dataset, config)
    features = FeatureSet.fit(dataset, split, config)
    checkpoint.open_run_folder(run_dir, dataset, config, features, False)
    linear = LinearModel(config, features)
    linear.fill(vectors)
    row = {"epoch": 1, "seconds": round(time.perf_counter() - started, 3), "is_best": False}
    checkpoint.write_lines(run_dir / "metrics.jsonl", [row])
    save_federated(run_dir, record, n_events, followers)
    return fit.finish(linear, [row], split, run_dir, progress=False)


def walked(
    weights: NDArray[np.float32] | None,
    popular: NDArray[np.float64],
    items: pl.DataFrame,
    config: Config,
) -> Dataset:
    """Draw histories for the checks of the export, in place of users that nobody has.

    Parameters
    ----------
    weights : ndarray of shape (n_items, n_items) or None
        What each item says of the others; None: walks go by popularity alone.
    popular : ndarray of shape (n_items,)
    items : polars.DataFrame
    config : Config
    """
    n_items = items.height
    if n_items < 2:
        raise DataError(f"items: got {n_items} in the catalogue, expected at least 2")
    nothing = np.broadcast_to(np.float32(0), (n_items, n_items))
    walks = draw_walks(
        nothing if weights is None else weights,
        popular,
        n_walks=N_WALKS,
        length=LENGTH,
        decay=config.linear.decay_age,
        seed=config.train.seed,
    )
    return replace(walks_dataset(walks, items, pl.String()), name=FEDERATED)


def private_claim(
    config: Config, n_users: int, releases: Sequence[Mapping[str, Any]] = ()
) -> Claim | None:
    """Compute what a plan promises; None where it has no ``[privacy]``.

    Parameters
    ----------
    config : Config
        Of the plan.
    n_users : int
        Fewest that there are, which ``privacy.delta`` is checked with.
    releases : sequence of mapping
        Earlier ones, for the same users.
    """
    return claim_of(config.privacy, n_users, tuple(releases)) if is_private(config) else None


def _private_sums(
    split: Split, config: Config, n_parties: int, source: RandomBytes
) -> dict[str, Rows]:
    """Add up bounded contributions, and add a share of the noise.

    The shares of all but one party are the whole noise: so a party that takes its own share off
    still sees what is promised.
    """
    events = split.target_events("train")
    users = events["user_id"].rle_id().to_numpy().astype(np.int64)
    claim = private_claim(config, max(1, split.dataset.events["user_id"].n_unique()))
    assert claim is not None
    rows, bounds = split.item_rows(events["item_id"]), bounds_of(config, claim)
    sums = sum_contributions(users, rows, len(split.catalogue), bounds)
    add_steps(sums, claim.sigma / math.sqrt(n_parties - 1), source)
    pairs = sums.pairs[np.triu_indices(len(sums.counts))]
    return {"counts": sums.counts.astype(np.int64), "pairs": pairs.astype(np.int64)}


def _train_private(
    total: dict[str, Rows],
    items: pl.DataFrame,
    config: Config,
    run_dir: Path,
    record: dict[str, Any],
    claim: Claim,
) -> TrainedModel:
    """Make the model of a total that has the noise of all parties."""
    n_items, n_parties, bounds = items.height, len(record["parties"]), bounds_of(config, claim)
    pairs = np.zeros((n_items, n_items))
    pairs[np.triu_indices(n_items)] = total["pairs"]
    sigma = claim.sigma * math.sqrt(n_parties / (n_parties - 1))
    noisy = undo_shares(Sums(pairs, total["counts"].astype(np.float64)), sigma, bounds)
    made = Release(noisy, ledger_of(claim, bounds, mechanism=MECHANISM.format(n_parties)))
    public = apply_overrides(config, {"privacy.epsilon": math.inf, "privacy.delta": 0.0})
    save_release(made, run_dir)
    write_federation(run_dir, record)
    return train_on(made, items, pl.String(), public, run_dir, None, progress=False)


def _model(config: Config) -> Counted:
    model = build_baseline(config)
    assert isinstance(model, Counted)
    return model


def _dense(values: Any) -> Rows:
    dense: Rows = values.toarray() if sparse.issparse(values) else values
    return dense
