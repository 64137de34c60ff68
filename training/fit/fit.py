"""Train the encoders (and the scorer): epochs, validation, early stopping, checkpoints, resume.

Run folder: ``config.toml``, ``features.json``, ``data/`` (copy of the dataset), ``checkpoint.npz``
(everything to go on from), ``metrics.jsonl`` (one line an epoch), ``tensorboard/``, and at the end
``weights.npz`` (the best epoch) and ``scorer.npz``. Closed-form models (`models.linear`) have no
epochs: one fit, one line, and no checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from shortlist.errors import DataError
from shortlist.training.config.sections import Config
from shortlist.training.data.events import Dataset
from shortlist.training.evaluation.evaluate import evaluate
from shortlist.training.evaluation.ranker import TwoTowerRanker
from shortlist.training.features.features import FeatureSet, align_items
from shortlist.training.fit import checkpoint
from shortlist.training.fit.checkpoint import open_run_folder
from shortlist.training.fit.loop import EpochRow, Loop, OnEpoch, how_it_ended
from shortlist.training.fit.second_stage import (
    RerankerReport,
    Scorer,
    load_reranker,
    train_reranker,
)
from shortlist.training.models.linear import LinearModel, build_baseline, is_closed_form
from shortlist.training.models.two_tower import TwoTower
from shortlist.training.privacy.settings import is_private
from shortlist.training.splits.leakage import check_no_leakage
from shortlist.training.splits.parts import Split
from shortlist.training.splits.split import configured_split


@dataclass
class TrainedModel:
    """A finished run, ready to evaluate and export.

    Attributes
    ----------
    config : Config
    features : FeatureSet
    split : Split
    two_tower : TwoTower
        With the weights of the best epoch.
    scorer : CandidateScorer, FollowerScorer or None
    history : list of dict
        One dict an epoch: ``epoch`` (from 1), ``loss``, ``learning_rate``, ``seconds``,
        ``examples_per_second``, ``is_best`` and, where measured, the validation metrics.
    run_dir : Path
    reranker_report : RerankerReport or None
        What the second stage changes; None where the settings ask for none.
    """

    config: Config
    features: FeatureSet
    split: Split
    two_tower: TwoTower
    scorer: Scorer | None
    history: list[EpochRow]
    run_dir: Path
    reranker_report: RerankerReport | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Validation metrics of the best epoch; empty if nothing was held out."""
        best = [row for row in self.history if row["is_best"]]
        return {k: v for k, v in best[-1].items() if "@" in k} if best else {}

    @property
    def ended(self) -> str:
        """Why the epochs ended and which was kept, as a sentence; empty for closed-form models."""
        return "" if is_closed_form(self.config) else how_it_ended(self.history, self.config)

    def ranker(self) -> TwoTowerRanker:
        """Give a `Ranker` for `shortlist.training.evaluation.evaluate`."""
        threads = self.config.train.n_threads
        return TwoTowerRanker(self.two_tower, self.split.dataset, n_threads=threads)


def train(
    dataset: Dataset,
    config: Config,
    run_dir: str | Path,
    *,
    split: Split | None = None,
    features: FeatureSet | None = None,
    resume: bool = False,
    progress: bool = True,
    on_epoch: OnEpoch | None = None,
    refine: Callable[[TwoTower], None] | None = None,
) -> TrainedModel:
    """Train on a dataset; the same dataset, config and machine give the same weights.

    Parameters
    ----------
    dataset : Dataset
    config : Config
    run_dir : path
        Folder for checkpoints, logs and the result; created if needed.
    split : Split, optional
        Another cut of the dataset than ``[split]`` says; `load_run` will not know it.
    features : FeatureSet, optional
        What `FeatureSet.fit` gave for this dataset, split and config.
    resume : bool
        Go on from the folder's last checkpoint (or start, if there is none yet); the result is
        exactly that of a run that was never interrupted.
    progress : bool
        Show a progress bar with ETA, loss and examples/s.
    on_epoch : callable, optional
        Called as ``on_epoch(epoch, row)`` after each epoch's checkpoint; may raise to stop.
    refine : callable, optional
        Changes the trained encoders before their weights are kept.

    Raises
    ------
    DataError
        The folder holds another run, or a run and ``resume`` is False; too few events; a leak.
    """
    run_dir = Path(run_dir)
    if is_private(config):
        raise DataError(
            f"privacy.epsilon: got {config.privacy.epsilon:g} for a training that adds no noise, "
            "expected no [privacy]. Fix: `shortlist train`, or shortlist.training.train"
        )
    set_threads(config.train.n_threads)
    split = split or configured_split(dataset, config)
    check_no_leakage(split)
    features = features or FeatureSet.fit(dataset, split, config)
    open_run_folder(run_dir, dataset, config, features, resume)
    model = build_model(config, features, dataset, split)
    if isinstance(model, LinearModel):
        history = fit_closed_form(model, split, run_dir, on_epoch)
        return finish(model, history, split, run_dir, progress=progress)
    loop = Loop(model, config, split, run_dir)
    loop.restore()
    loop.run(progress, on_epoch)
    model.set_weights(loop.best)
    if refine is not None:
        refine(model)
    return finish(model, loop.history, split, run_dir, progress=progress)


def finish(
    model: TwoTower,
    history: list[EpochRow],
    split: Split,
    run_dir: Path,
    *,
    progress: bool,
) -> TrainedModel:
    """Keep the weights of a model, and train the scorer on them if one is wanted."""
    config = model.config
    checkpoint.save_arrays(run_dir / checkpoint.WEIGHTS, model.get_weights(), {"history": history})
    scorer: Scorer | None = None
    report: RerankerReport | None = None
    if config.scorer.enabled:
        scorer, report = train_reranker(model, split, config, run_dir, progress=progress)
    return TrainedModel(config, model.features, split, model, scorer, history, run_dir, report)


def fit_closed_form(
    model: LinearModel, split: Split, run_dir: Path, on_epoch: OnEpoch | None = None
) -> list[EpochRow]:
    """Fit a closed-form model on the train part, and measure it on what is held out.

    With ``linear.refit`` it is then fitted on the train and the validation part.

    Returns
    -------
    list of dict
        One row, as of an epoch of `Loop`, without a loss.
    """
    started = time.perf_counter()
    trend = model.config.linear.trend
    if trend > 0.0 and not split.dataset.has_times:
        raise DataError(
            f"linear.trend: got {trend:g}, but the events have no times. Fix: leave it 0"
        )
    baseline = build_baseline(model.config)
    baseline.fit(split.train, split.catalogue, split.weights(split.train))
    row: EpochRow = {"epoch": 1, "seconds": round(time.perf_counter() - started, 3)}
    row["is_best"] = split.target_events("valid").height > 0
    if row["is_best"]:
        include_seen = model.config.split.include_seen
        row |= evaluate(baseline, split, on="valid", include_seen=include_seen)
        if model.config.linear.refit:
            known = split.known_events("valid")
            baseline = build_baseline(model.config)
            baseline.fit(known, split.catalogue, split.weights(known))
    model.fill(baseline.item_vectors())
    checkpoint.write_lines(run_dir / "metrics.jsonl", [row])
    if on_epoch is not None:
        on_epoch(1, row)
    return [row]


def load_run(run_dir: str | Path) -> TrainedModel:
    """Rebuild a finished run from its folder alone."""
    run_dir = Path(run_dir)
    config = checkpoint.read_finished(run_dir)
    dataset = checkpoint.load_dataset_copy(run_dir / "data")
    split = configured_split(dataset, config)
    features = FeatureSet.from_json((run_dir / "features.json").read_text(encoding="utf-8"))
    weights, state = checkpoint.load_arrays(run_dir / checkpoint.WEIGHTS)
    model = build_model(config, features, dataset, split)
    model.set_weights(weights)
    scorer, report = load_reranker(run_dir, config)
    return TrainedModel(config, features, split, model, scorer, state["history"], run_dir, report)


def build_model(config: Config, features: FeatureSet, dataset: Dataset, split: Split) -> TwoTower:
    """Create an untrained model that knows the catalogue's content.

    Items without train events have no id embedding: their vector comes from content alone.
    """
    if is_closed_form(config):
        return LinearModel(config, features)
    table = align_items(dataset, np.asarray(split.catalogue))
    model = TwoTower(config, features, features.encode_items(table))
    rows = split.item_rows(split.train["item_id"])
    model.forget_ids(np.bincount(rows, minlength=features.n_items) == 0)
    return model


def set_threads(n_threads: int) -> None:
    """Limit TensorFlow's threads; it only listens before its first operation."""
    if n_threads and tf.config.threading.get_intra_op_parallelism_threads() != n_threads:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(n_threads)
        except RuntimeError as error:
            raise DataError(
                f"train.n_threads: got {n_threads}, but TensorFlow already runs with "
                "another number; set it before anything else uses TensorFlow, or leave it 0"
            ) from error
