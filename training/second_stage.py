"""The scorer in the pipeline: trained on (user embedding, item embedding) → preference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from shortlist.errors import DataError
from shortlist.training import checkpoint
from shortlist.training.config import ScorerConfig
from shortlist.training.features import align_users
from shortlist.training.models.scorer import (
    DNNScorer,
    constant_loss,
    fit_scorer,
    scorer_loss,
    scorer_state,
)
from shortlist.training.splits import to_id_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config import Config
    from shortlist.training.models.two_tower import TwoTower
    from shortlist.training.splits import Split

MAX_EVENTS = 500_000  # more events hardly change a scorer of this size
Columns = tuple["NDArray[np.float32]", "NDArray[np.float32]", "NDArray[np.float32]"]


def train_scorer(
    model: TwoTower, split: Split, config: Config, run_dir: Path, *, progress: bool
) -> tuple[DNNScorer, dict[str, Any]]:
    """Train the scorer on the train events, judge it on the valid events, and save it.

    The user embedding is that of the moment before the event, so a target never feeds its own
    prediction. Targets are event values scaled to 0..1, or 1 for events and 0 for sampled unseen
    items.

    Returns
    -------
    scorer : DNNScorer
    report : dict
        ``target``, ``validation_loss``, ``mean_loss`` (always answering the mean train target).
    """
    settings = config.scorer
    kind = _target_kind(settings, split.train)
    rng = np.random.default_rng([settings.seed, 4])
    held_out = split.valid if split.valid.height else split.train
    train = _examples(model, split, split.train, kind, settings, rng)
    valid = _examples(model, split, held_out, kind, settings, rng)
    scorer = fit_scorer(*train, settings, validation=valid, progress=progress)
    report = {
        "target": kind,
        "validation_loss": scorer_loss(scorer, valid),
        "mean_loss": constant_loss(settings, float(train[2].mean()), valid[2]),
    }
    state = scorer_state(scorer) | {"report": report}
    checkpoint.save_arrays(run_dir / checkpoint.SCORER, scorer.get_weights(), state)
    return scorer, report


def load_scorer(run_dir: Path, config: Config) -> tuple[DNNScorer | None, dict[str, Any]]:
    """Read the scorer of a run folder; (None, {}) if the run has none."""
    if not config.scorer.enabled:
        return None, {}
    weights, state = checkpoint.load_arrays(run_dir / checkpoint.SCORER)
    settings = state["config"] | {"hidden": tuple(state["config"]["hidden"])}
    scorer = DNNScorer(ScorerConfig(**settings), state["n_user_features"], state["n_item_features"])
    scorer.set_weights(weights)
    scorer.history = state["history"]
    return scorer, state["report"]


def _target_kind(settings: ScorerConfig, train: pl.DataFrame) -> str:
    values = train["value"]
    n_distinct = values.drop_nulls().n_unique()
    if settings.target == "value" and n_distinct < 2:
        raise DataError(
            "scorer.target: got 'value', but the events have fewer than 2 different values; "
            "expected 'implicit' or 'auto'"
        )
    has_values = n_distinct >= 2 and values.null_count() < len(values) / 2
    return ("value" if has_values else "implicit") if settings.target == "auto" else settings.target


def _examples(
    model: TwoTower,
    split: Split,
    events: pl.DataFrame,
    kind: str,
    settings: ScorerConfig,
    rng: np.random.Generator,
) -> Columns:
    known = split.train if events is split.train else split.known_events("valid")
    wanted = events if kind == "implicit" else events.filter(pl.col("value").is_not_null())
    if wanted.height > MAX_EVENTS:
        wanted = wanted[np.sort(rng.choice(wanted.height, MAX_EVENTS, replace=False))]
    users, rows = _embed_before(model, split, known, wanted)
    items = model.item_vectors()
    if kind == "value":
        low, high = split.train["value"].min(), split.train["value"].max()
        values = wanted["value"].to_numpy()
        targets = np.clip((values - low) / (high - low), 0.0, 1.0).astype(np.float32)  # type: ignore[operator]
        return users, items[rows], targets
    negatives, owners = _unseen(known, split, wanted, settings.n_negatives, rng)
    targets = np.concatenate([np.ones(len(rows)), np.zeros(len(negatives))]).astype(np.float32)
    return np.concatenate([users, users[owners]]), items[np.concatenate([rows, negatives])], targets


def _embed_before(
    model: TwoTower, split: Split, known: pl.DataFrame, wanted: pl.DataFrame
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """User embeddings at the moment before each wanted event, and the events' item rows."""
    codes = split.item_rows(known["item_id"]) + 1
    keys = ["user_id", "timestamp", "item_id", "kind"]
    place = known.select(keys).with_row_index("place").unique(subset=keys, keep="first")
    places = wanted.join(place, on=keys, how="left", maintain_order="left")["place"].to_numpy()
    users = known["user_id"]
    first = users.to_frame().with_row_index("place").group_by("user_id").agg(pl.col("place").min())
    starts = users.to_frame().join(first, on="user_id", how="left", maintain_order="left")["place"]
    width = model.config.model.history_length
    source = places.astype(np.int64)[:, None] + np.arange(-width, 0)
    inside = source >= starts.to_numpy().astype(np.int64)[places][:, None]
    history = np.where(inside, codes[np.maximum(source, 0)], 0)
    table = align_users(split.dataset, to_id_array(wanted["user_id"]))
    embeddings = model.encode_users(history, model.features.encode_users(table))
    return embeddings, codes[places] - 1


def _unseen(
    known: pl.DataFrame,
    split: Split,
    wanted: pl.DataFrame,
    n_negatives: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Random items that the event's user has not seen, and the number of their event."""
    n_items = len(split.catalogue)
    ids = known["user_id"].unique(maintain_order=True).to_frame().with_row_index("number")
    number = {}
    for name, frame in (("known", known), ("wanted", wanted)):
        joined = frame.select("user_id").join(ids, on="user_id", how="left", maintain_order="left")
        number[name] = joined["number"].to_numpy().astype(np.int64)
    seen = np.unique(number["known"] * n_items + split.item_rows(known["item_id"]))
    owners = np.repeat(np.arange(wanted.height), n_negatives)
    drawn = rng.integers(0, n_items, len(owners))
    fresh = np.isin(number["wanted"][owners] * n_items + drawn, seen, invert=True)
    return drawn[fresh], owners[fresh]
