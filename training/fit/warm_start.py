"""Go on from a finished run: its weights in a model of a larger catalogue, then a few epochs.

An update trains on every row of the train part that holds a new event, and on as many others
(``update.replay``), drawn anew each epoch, so that what was learned is not lost.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from shortlist.errors import DataError
from shortlist.training.fit.checkpoint import open_run_folder
from shortlist.training.fit.fit import (
    TrainedModel,
    build_model,
    finish,
    fit_closed_form,
    set_threads,
)
from shortlist.training.fit.loop import Loop
from shortlist.training.fit.teacher import count_followers
from shortlist.training.models.linear import LinearModel
from shortlist.training.splits.leakage import check_no_leakage, mark_new

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config.sections import Config
    from shortlist.training.models.two_tower import TwoTower
    from shortlist.training.splits.parts import Split

__all__ = ["go_on"]

ID_TABLE = "id_table"


def go_on(
    old: TrainedModel, split: Split, config: Config, run_dir: Path, *, progress: bool = True
) -> TrainedModel:
    """Train a finished run on the events that its train part did not have.

    Parameters
    ----------
    old : TrainedModel
    split : Split
        Of old and new events together; items may be new, the features' columns may not.
    config : Config
        The old run's, with ``[update]`` as it is to be.
    run_dir : Path
        A new folder, for the result.
    progress : bool
        Show a progress bar.

    Returns
    -------
    TrainedModel
        With the weights of the last epoch; of the best one where the split validates.

    Raises
    ------
    DataError
        No train event is new; the folder holds a run.
    """
    set_threads(config.train.n_threads)
    check_no_leakage(split)
    is_new = mark_new(split.train, old.split.train)
    if not is_new.any():
        raise DataError(
            f"update: got no new event among {split.train.height:,} to train on, expected at least "
            "1; lower update.holdout or wait for more events"
        )
    vocabulary = split.catalogue.tolist()
    features = dataclasses.replace(
        old.features, item_id=dataclasses.replace(old.features.item_id, vocabulary=vocabulary)
    )
    open_run_folder(run_dir, split.dataset, config, features, resume=False)
    model = build_model(config, features, split.dataset, split)
    if isinstance(model, LinearModel):  # nothing to go on from: fitted anew on all events
        history = fit_closed_form(model, split, run_dir)
        return finish(model, history, split, run_dir, progress=progress)
    take_over(model, old, split)
    rate = config.train.learning_rate * config.update.learning_rate
    few = dataclasses.replace(config.train, epochs=config.update.epochs, learning_rate=rate)
    loop = Loop(model, dataclasses.replace(config, train=few), split, run_dir, is_new=is_new)
    loop.run(progress, None)
    model.set_weights(loop.best)
    return finish(model, loop.history, split, run_dir, progress=progress)


def take_over(model: TwoTower, old: TrainedModel, split: Split) -> None:
    """Copy a run's weights into a model of a larger catalogue.

    Rows of items that the old run trained keep their vectors. An item that is new in the train
    part begins at random or, with ``item_init = "cooccurrence"``, at the mean of the items that it
    occurs with; an item without train events has no vector of its own.
    """
    weights = model.get_weights()
    before = old.two_tower.get_weights()
    (name,) = (name for name in weights if name.endswith(ID_TABLE))
    table, old_table = weights[name].copy(), before[name]
    n_old = len(old.split.catalogue)
    rows = old.split.item_rows(old.split.train["item_id"])
    was_trained = np.concatenate([[False], np.bincount(rows, minlength=n_old) > 0])
    codes = old.features.item_id.codes(pl.Series("item_id", split.catalogue.tolist()))
    is_kept = was_trained[codes]
    table[1:][is_kept] = old_table[codes[is_kept]]
    counts = np.bincount(split.item_rows(split.train["item_id"]), minlength=len(split.catalogue))
    is_fresh = ~is_kept & (counts > 0)
    if model.config.train.item_init == "cooccurrence" and is_fresh.any() and is_kept.any():
        table[1:][is_fresh] = _among_neighbours(table[1:], is_kept, is_fresh, split)
    model.set_weights(before | {name: table})


def _among_neighbours(
    table: NDArray[np.float32],
    is_kept: NDArray[np.bool_],
    is_fresh: NDArray[np.bool_],
    split: Split,
) -> NDArray[np.float32]:
    """Give fresh items the mean vector of the kept items near them, as long as theirs are."""
    lengths = split.train.group_by("user_id", maintain_order=True).len()["len"].to_numpy()
    rows = split.item_rows(split.train["item_id"])
    follows: Any = count_followers(
        rows, lengths.astype(np.int64), len(table), split.weights(split.train)
    )
    near = (follows + follows.T).tocsr()[is_fresh][:, is_kept]
    means = near @ table[is_kept]
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    length = np.linalg.norm(table[is_kept], axis=1).mean()
    vectors = means / np.maximum(norms, 1e-9) * length
    return np.where(norms > 0.0, vectors, table[is_fresh]).astype(np.float32)
