"""Train the encoders (and the scorer): epochs, validation, early stopping, checkpoints, resume.

Run folder: ``config.toml``, ``features.json``, ``data/`` (copy of the dataset), ``checkpoint.npz``
(everything to go on from), ``metrics.jsonl`` (one line an epoch), ``tensorboard/``, and at the end
``weights.npz`` (the best epoch) and ``scorer.npz``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from shortlist.errors import DataError
from shortlist.training import checkpoint
from shortlist.training.config import Config, read_config, to_toml
from shortlist.training.evaluate import evaluate
from shortlist.training.events import Dataset
from shortlist.training.features import FeatureSet, align_items, align_users
from shortlist.training.models.scorer import DNNScorer
from shortlist.training.models.two_tower import TwoTower
from shortlist.training.ranker import TwoTowerRanker
from shortlist.training.second_stage import load_scorer, train_scorer
from shortlist.training.splits import Split, check_no_leakage, make_split, to_id_array
from shortlist.training.step import TrainStep
from shortlist.training.windows import Windows

METRIC = "NDCG@10"
OnEpoch = Callable[[int, dict[str, Any]], None]


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
    scorer : DNNScorer or None
    history : list of dict
        One dict an epoch: ``epoch`` (from 1), ``loss``, ``learning_rate``, ``seconds``,
        ``examples_per_second``, ``is_best`` and, where measured, the validation metrics.
    run_dir : Path
    scorer_report : dict
        ``validation_loss`` and ``mean_loss`` (always answering the train mean); empty without.
    """

    config: Config
    features: FeatureSet
    split: Split
    two_tower: TwoTower
    scorer: DNNScorer | None
    history: list[dict[str, Any]]
    run_dir: Path
    scorer_report: dict[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Validation metrics of the best epoch; empty if nothing was held out."""
        best = [row for row in self.history if row["is_best"]]
        return {k: v for k, v in best[-1].items() if "@" in k} if best else {}

    def ranker(self) -> TwoTowerRanker:
        """Give a `Ranker` for `shortlist.training.evaluate`."""
        threads = self.config.train.n_threads
        return TwoTowerRanker(self.two_tower, self.split.dataset, n_threads=threads)


def train(
    dataset: Dataset,
    config: Config,
    run_dir: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    on_epoch: OnEpoch | None = None,
) -> TrainedModel:
    """Train on a dataset; the same dataset, config and machine give the same weights.

    Parameters
    ----------
    dataset : Dataset
    config : Config
    run_dir : path
        Folder for checkpoints, logs and the result; created if needed.
    resume : bool
        Go on from the folder's last checkpoint (or start, if there is none yet); the result is
        exactly that of a run that was never interrupted.
    progress : bool
        Show a progress bar with ETA, loss and examples/s.
    on_epoch : callable, optional
        Called as ``on_epoch(epoch, row)`` after each epoch's checkpoint; may raise to stop.

    Raises
    ------
    DataError
        The folder holds another run, or a run and ``resume`` is False; too few events; a leak.
    """
    run_dir = Path(run_dir)
    _set_threads(config.train.n_threads)
    split = make_split(
        dataset, config.split.protocol, valid=config.split.valid, test=config.split.test
    )
    check_no_leakage(split)
    features = FeatureSet.fit(dataset, split, config)
    _open_run_folder(run_dir, dataset, config, features, resume)
    model = build_model(config, features, dataset, split)
    loop = _Loop(model, config, split, run_dir)
    loop.restore()
    loop.run(progress, on_epoch)
    model.set_weights(loop.best)
    checkpoint.save_arrays(run_dir / "weights.npz", loop.best, {"history": loop.history})
    scorer: DNNScorer | None = None
    report: dict[str, Any] = {}
    if config.scorer.enabled:
        scorer, report = train_scorer(model, split, config, run_dir, progress=progress)
    return TrainedModel(config, features, split, model, scorer, loop.history, run_dir, report)


def load_run(run_dir: str | Path) -> TrainedModel:
    """Rebuild a finished run from its folder alone."""
    run_dir = Path(run_dir)
    if not (run_dir / "config.toml").exists():
        raise DataError(f"run folder: {run_dir} has no config.toml; expected a folder of `train`")
    if not (run_dir / "weights.npz").exists():
        raise DataError(f"run folder: {run_dir} is unfinished (no weights.npz); resume it first")
    config = read_config(run_dir / "config.toml")
    dataset = checkpoint.load_dataset_copy(run_dir / "data")
    split = make_split(
        dataset, config.split.protocol, valid=config.split.valid, test=config.split.test
    )
    features = FeatureSet.from_json((run_dir / "features.json").read_text(encoding="utf-8"))
    weights, state = checkpoint.load_arrays(run_dir / "weights.npz")
    model = build_model(config, features, dataset, split)
    model.set_weights(weights)
    scorer, report = load_scorer(run_dir, config)
    return TrainedModel(config, features, split, model, scorer, state["history"], run_dir, report)


def build_model(config: Config, features: FeatureSet, dataset: Dataset, split: Split) -> TwoTower:
    """Create an untrained model that knows the catalogue's content."""
    table = align_items(dataset, np.asarray(split.catalogue))
    return TwoTower(config, features, features.encode_items(table))


def build_windows(split: Split, config: Config) -> tuple[Windows, NDArray[Any]]:
    """Cut the train part into windows; also gives the user ids, one per user row."""
    counts = split.train.group_by("user_id", maintain_order=True).len()
    windows = Windows(
        split.item_rows(split.train["item_id"]) + 1,
        counts["len"].to_numpy().astype(np.int64),
        history_length=config.model.history_length,
        n_targets=config.train.n_targets,
        windows_per_user=config.train.windows_per_user,
    )
    return windows, to_id_array(counts["user_id"])


class _Loop:
    """The state of a run between two epochs: exactly what a checkpoint holds."""

    def __init__(self, model: TwoTower, config: Config, split: Split, run_dir: Path) -> None:
        if split.train.height == 0:
            raise DataError(f"{split.dataset.name}: got no train events, expected at least 1")
        self.model = model
        self.config = config
        self.split = split
        self.run_dir = run_dir
        self.windows, user_ids = build_windows(split, config)
        self.n_steps = self.windows.n_steps(config.train.batch_size)
        counts = np.bincount(self.windows.codes - 1, minlength=model.n_items)
        inputs = model.features.encode_users(align_users(split.dataset, user_ids))
        self.step = TrainStep(model, config, inputs, counts, self.n_steps * config.train.epochs)
        self.best = model.get_weights()
        self.history: list[dict[str, Any]] = []

    @property
    def is_finished(self) -> bool:
        """All epochs done, or no better metric for ``patience`` epochs."""
        done = len(self.history)
        best = max((row["epoch"] for row in self.history if row["is_best"]), default=done)
        return done >= self.config.train.epochs or done - best >= self.config.train.patience

    def run(self, progress: bool, on_epoch: OnEpoch | None) -> None:
        """Train the epochs that are left."""
        if self.is_finished:
            return
        total = self.config.train.epochs * self.windows.n_examples
        writer = tf.summary.create_file_writer(str(self.run_dir / "tensorboard"))
        with (
            writer.as_default(),
            tqdm(
                total=total,
                initial=len(self.history) * self.windows.n_examples,
                unit=" examples",
                unit_scale=True,
                desc="train",
                disable=not progress,
            ) as bar,
        ):
            while not self.is_finished:
                row = self._epoch(len(self.history), bar)
                self.save()
                for name, value in row.items():
                    if name not in ("epoch", "is_best"):
                        tf.summary.scalar(name, value, step=row["epoch"])
                writer.flush()
                if on_epoch is not None:
                    on_epoch(row["epoch"], row)

    def _epoch(self, epoch: int, bar: Any) -> dict[str, Any]:
        train, started, losses = self.config.train, time.perf_counter(), []
        batches = self.windows.batches(
            train.batch_size, seed=train.seed, epoch=epoch, history_dropout=train.history_dropout
        )
        n_examples = 0
        for batch in batches:
            losses.append(self.step(batch, epoch=epoch))
            n_examples += (n_new := int(batch.weight.sum()))
            bar.update(n_new)
            if batch.step % 10 == 0:
                bar.set_postfix(self._postfix(epoch, float(losses[-1])), refresh=False)
        seconds = time.perf_counter() - started
        row: dict[str, Any] = {
            "epoch": epoch + 1,
            "loss": float(np.mean([float(loss) for loss in losses])),
            "learning_rate": float(self.step.optimizer.learning_rate),
            "seconds": round(seconds, 3),
            "examples_per_second": round(n_examples / seconds, 1),
            "is_best": False,
        }
        if not np.isfinite(row["loss"]):
            raise DataError(
                f"training diverged in epoch {epoch + 1}: loss is {row['loss']}; "
                f"lower train.learning_rate ({train.learning_rate})"
            )
        self._validate(row)
        self.history.append(row)
        return row

    def _validate(self, row: dict[str, Any]) -> None:
        """Measure where due, and keep the weights if they are the best so far."""
        train = self.config.train
        is_due = row["epoch"] % train.evaluate_every == 0 or row["epoch"] == train.epochs
        with self.step.averaged():
            if self.split.valid.height and is_due:
                threads = train.n_threads
                ranker = TwoTowerRanker(self.model, self.split.dataset, n_threads=threads)
                row |= evaluate(ranker, self.split, on="valid", ks=(10, 20))
                before = [old[METRIC] for old in self.history if METRIC in old]
                row["is_best"] = row[METRIC] > max(before, default=-1.0)
            # Nothing held out: the last epoch counts.
            if row["is_best"] or not self.split.valid.height:
                self.best = self.model.get_weights()

    def _postfix(self, epoch: int, loss: float) -> dict[str, Any]:
        measured = [row[METRIC] for row in self.history if METRIC in row]
        shown: dict[str, Any] = {"epoch": epoch + 1, "loss": f"{loss:.3f}"}
        return shown | ({METRIC: f"{max(measured):.4f}"} if measured else {})

    def save(self) -> None:
        """Write the checkpoint, then the readable log (which a resume repairs if needed)."""
        arrays = {f"best/{name}": value for name, value in self.best.items()}
        arrays |= {f"state/{i:04d}": v.numpy() for i, v in enumerate(self.step.variables)}
        path = self.run_dir / "checkpoint.npz"
        checkpoint.save_arrays(path, arrays, {"history": self.history})
        checkpoint.write_lines(self.run_dir / "metrics.jsonl", self.history)

    def restore(self) -> None:
        """Go back to the last checkpoint, if there is one."""
        path = self.run_dir / "checkpoint.npz"
        if not path.exists():
            return
        arrays, state = checkpoint.load_arrays(path)
        for i, variable in enumerate(self.step.variables):
            variable.assign(arrays[f"state/{i:04d}"])
        self.best = {
            name.removeprefix("best/"): value
            for name, value in arrays.items()
            if name.startswith("best/")
        }
        self.history = state["history"]
        checkpoint.write_lines(self.run_dir / "metrics.jsonl", self.history)


def _open_run_folder(
    run_dir: Path, dataset: Dataset, config: Config, features: FeatureSet, resume: bool
) -> None:
    """Create the folder, or check that it holds this very run."""
    run_dir.mkdir(parents=True, exist_ok=True)
    has_run = (run_dir / "checkpoint.npz").exists()
    if has_run and not resume:
        raise DataError(
            f"run folder: {run_dir} already holds a run; pass resume=True (--resume) to go on, "
            "or choose another folder"
        )
    if has_run:
        old = read_config(run_dir / "config.toml")
        _check_same_settings(old, config, run_dir)
        if not checkpoint.same_dataset(checkpoint.load_dataset_copy(run_dir / "data"), dataset):
            raise DataError(f"resume: the data differs from that of the run in {run_dir}")
        return
    checkpoint.save_dataset(dataset, run_dir / "data")
    checkpoint.write_atomic(run_dir / "features.json", features.to_json().encode())
    checkpoint.write_atomic(run_dir / "config.toml", to_toml(config).encode())


def _check_same_settings(old: Config, new: Config, run_dir: Path) -> None:
    for section in ("split", "model", "train"):
        before, after = vars(getattr(old, section)), vars(getattr(new, section))
        for key, value in after.items():
            if before[key] != value and key != "n_threads":
                raise DataError(
                    f"resume: {section}.{key}: got {value!r}, expected {before[key]!r} "
                    f"as in {run_dir}; settings cannot change within a run"
                )


def _set_threads(n_threads: int) -> None:
    """Limit TensorFlow's threads; it only listens before its first operation."""
    if n_threads and tf.config.threading.get_intra_op_parallelism_threads() != n_threads:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(n_threads)
        except RuntimeError as error:
            raise DataError(
                f"train.n_threads: got {n_threads}, but TensorFlow already runs with "
                "another number; set it before anything else uses TensorFlow, or leave it 0"
            ) from error
