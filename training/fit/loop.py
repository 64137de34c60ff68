"""The epochs of a run: train, validate, keep the best, write a checkpoint, stop early."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm  # a widget in notebooks

from shortlist.errors import DataError
from shortlist.training.data.counted import counted
from shortlist.training.evaluation.evaluate import evaluate
from shortlist.training.evaluation.ranker import TwoTowerRanker
from shortlist.training.features.features import align_users
from shortlist.training.fit import checkpoint
from shortlist.training.fit.sequences import Sequences
from shortlist.training.fit.step import TrainStep
from shortlist.training.fit.teacher import (
    count_followers,
    damp_popular,
    first_vectors,
    positive_weights,
    strongest,
)
from shortlist.training.models.ease import EASE
from shortlist.training.models.weights import snapshot
from shortlist.training.splits.parts import to_id_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config.sections import Config
    from shortlist.training.features.features import Feature
    from shortlist.training.fit.example import Example
    from shortlist.training.fit.sequences import Batch
    from shortlist.training.models.two_tower import TwoTower
    from shortlist.training.splits.parts import Split

METRIC = "NDCG@10"
# Numbers of an epoch by name: ``epoch`` (from 1), ``loss``, ``learning_rate``, ``seconds``,
# ``examples_per_second``, ``is_best`` and, where measured, the validation metrics.
EpochRow: TypeAlias = dict[str, float]
OnEpoch: TypeAlias = Callable[[int, EpochRow], None]


def how_it_ended(history: Sequence[EpochRow], config: Config) -> str:
    """Say why the epochs of a finished run ended, and which of them was kept."""
    n_epochs, patience = len(history), config.train.patience
    best = next((row for row in reversed(history) if row["is_best"]), None)
    if best is None:
        return f"done: {counted(n_epochs, 'epoch')}, nothing held out to measure; the last was kept"
    kept = f"best was {best['epoch']:.0f} ({METRIC} {best[METRIC]:.4f})"
    if n_epochs < config.train.epochs:
        span = "an epoch" if patience == 1 else f"{patience} epochs"
        return f"stopped after epoch {n_epochs}: no better for {span}, {kept}"
    advice = "; still rising: more train.epochs may help" if best["epoch"] == n_epochs else ""
    return f"done: {'all ' * (n_epochs > 1)}{counted(n_epochs, 'epoch')}, {kept}{advice}"


class DivergedError(DataError):
    """The loss is no number any more: the settings do not fit together."""


def build_sequences(
    split: Split,
    config: Config,
    event_features: Sequence[Feature] = (),
    *,
    is_causal: bool = False,
    is_new: NDArray[np.bool_] | None = None,
) -> tuple[Sequences, NDArray[Any]]:
    """Cut the train part into sequences; also gives the user ids, one per user row.

    ``is_new`` marks the train events of an update: see `Sequences`.
    """
    declared = {feature.name: feature for feature in event_features}
    kinds = declared.get("history_kinds")
    counts = split.train.group_by("user_id", maintain_order=True).len()
    sequences = Sequences(
        split.item_rows(split.train["item_id"]) + 1,
        counts["len"].to_numpy().astype(np.int64),
        history_length=config.model.history_length,
        n_targets=config.train.n_targets,
        is_causal=is_causal,
        windows_per_user=config.train.windows_per_user,
        kinds=kinds.codes(split.train["kind"]) if kinds is not None else None,
        times=split.train["timestamp"].to_numpy() if "history_ages" in declared else None,
        weights=split.weights(split.train),
        is_new=is_new,
        replay=config.update.replay,
    )
    return sequences, to_id_array(counts["user_id"])


class Loop:
    """The state of a run between two epochs: exactly what a checkpoint holds.

    ``is_new`` marks the train events of an update, and ``example`` teaches a student: the model
    then goes on from its weights.
    """

    def __init__(
        self,
        model: TwoTower,
        config: Config,
        split: Split,
        run_dir: Path,
        *,
        is_new: NDArray[np.bool_] | None = None,
        example: Example | None = None,
    ) -> None:
        if not (split.train.height and split.target_events("train").height):
            raise DataError(
                f"{split.dataset.name}: got no train events that are targets, expected at least 1"
            )
        self.model = model
        self.config = config
        self.split = split
        self.run_dir = run_dir
        self.windows, user_ids = build_sequences(
            split,
            config,
            model.features.event_features,
            is_causal=model.user_encoder.is_causal,
            is_new=is_new,
        )
        self.has_valid = split.target_events("valid").height > 0
        self.n_steps = self.windows.n_steps(config.train.batch_size)
        counts = np.bincount(self.windows.codes - 1, minlength=model.n_items)
        inputs = model.features.encode_users(align_users(split.dataset, user_ids))
        goes_on = is_new is not None or example is not None
        if config.train.item_init == "cooccurrence" and not goes_on:
            model.begin_with(self._first_vectors(), counts > 0)
        taught = self._teach() if config.train.teacher > 0.0 and example is None else None
        self.step = TrainStep(
            model, config, inputs, counts, self.n_steps * config.train.epochs, taught, example
        )
        self.best: dict[str, NDArray[np.float32]] = {}  # after the first epoch that is measured
        self.history: list[EpochRow] = []

    def _count_followers(self) -> Any:
        sequences, n_items = self.windows, self.model.n_items
        return count_followers(sequences.codes - 1, sequences.lengths, n_items, sequences.weights)

    def _first_vectors(self) -> NDArray[np.float32]:
        follows, n_members = self._count_followers(), self.config.model.n_members
        width, seed = self.model.dim // n_members, self.config.train.seed
        return first_vectors(follows, width, seed, n_members)

    def _teach(self) -> Any:
        """Compute what ``train.teacher_model`` says, for `Teacher`."""
        wanted, opinions = self.config.train.teacher_model, []
        if wanted != "ease":
            opinions.append(strongest(damp_popular(self._count_followers())))
        if wanted != "cooccurrence":
            ease, split = EASE(self.config.linear.ease_l2), self.split
            ease.fit(split.train, split.catalogue, split.weights(split.train))
            opinions.append(strongest(positive_weights(ease.weights)))
        return sum(opinions[1:], opinions[0])

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
        is_live = sys.stderr.isatty() or "ipykernel" in sys.modules
        with (
            writer.as_default(),
            tqdm(
                total=total,
                initial=len(self.history) * self.windows.n_examples,
                unit=" examples",
                unit_scale=True,
                desc="train",
                disable=not progress,
                # A log keeps every line that a terminal would overwrite.
                mininterval=0.1 if is_live else 10.0,
            ) as bar,
        ):
            self._run_epochs(bar, writer, on_epoch)
            bar.total = bar.n  # early stopping leaves no work undone
            bar.refresh()

    def _run_epochs(self, bar: Any, writer: Any, on_epoch: OnEpoch | None) -> None:
        while not self.is_finished:
            row = self._epoch(len(self.history), bar)
            bar.set_postfix(self._postfix(len(self.history) - 1, row["loss"]))
            self.save()
            for name, value in row.items():
                if name not in ("epoch", "is_best"):
                    tf.summary.scalar(name, value, step=row["epoch"])
            writer.flush()
            if on_epoch is not None:
                on_epoch(len(self.history), row)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Give the batches of one epoch, from 0."""
        train = self.config.train
        return self.windows.batches(
            train.batch_size,
            seed=train.seed,
            epoch=epoch,
            history_dropout=train.history_dropout,
        )

    def _epoch(self, epoch: int, bar: Any) -> EpochRow:
        train, started, losses = self.config.train, time.perf_counter(), []
        n_examples = 0
        for batch in self.batches(epoch):
            losses.append(self.step(batch, epoch=epoch))
            n_examples += (n_new := batch.n_events)
            bar.update(n_new)
            if batch.step % 10 == 0:
                bar.set_postfix(self._postfix(epoch, float(losses[-1])), refresh=False)
        seconds = time.perf_counter() - started
        row: EpochRow = {
            "epoch": epoch + 1,
            "loss": float(np.mean([float(loss) for loss in losses])),
            "learning_rate": float(self.step.optimizer.learning_rate),
            "seconds": round(seconds, 3),
            "examples_per_second": round(n_examples / seconds, 1),
            "is_best": False,
        }
        if not np.isfinite(row["loss"]):
            raise DivergedError(
                f"training diverged in epoch {epoch + 1}: loss is {row['loss']}; "
                f"lower train.learning_rate ({train.learning_rate})"
            )
        self._validate(row)
        self.history.append(row)
        return row

    def _validate(self, row: EpochRow) -> None:
        """Measure where due, and keep the weights if they are the best so far."""
        train = self.config.train
        is_due = row["epoch"] % train.evaluate_every == 0 or row["epoch"] == train.epochs
        with self.step.averaged():
            if self.has_valid and is_due:
                threads = train.n_threads
                ranker = TwoTowerRanker(self.model, self.split.dataset, n_threads=threads)
                include_seen = self.config.split.include_seen
                row |= evaluate(ranker, self.split, on="valid", include_seen=include_seen)
                before = [old[METRIC] for old in self.history if METRIC in old]
                row["is_best"] = row[METRIC] > max(before, default=-1.0)
            # Nothing held out: the last epoch counts.
            if row["is_best"] or not self.has_valid:
                self.best = {}  # its memory is needed for the new ones
                self.best = self.model.get_weights()

    def _postfix(self, epoch: int, loss: float) -> dict[str, object]:
        shown: dict[str, object] = {"epoch": epoch + 1, "loss": f"{loss:.3f}"}
        best = [row for row in self.history if row["is_best"]]
        if best:
            shown["best"] = f"{best[-1][METRIC]:.4f} {METRIC} of epoch {best[-1]['epoch']:.0f}"
        return shown

    def save(self) -> None:
        """Write the checkpoint, then the readable log (which a resume repairs if needed)."""
        best = ((f"best/{name}", value) for name, value in self.best.items())
        state = ((f"state/{i:04d}", snapshot(v)) for i, v in enumerate(self.step.variables))
        path = self.run_dir / checkpoint.CHECKPOINT
        checkpoint.save_arrays(path, itertools.chain(best, state), {"history": self.history})
        checkpoint.write_lines(self.run_dir / "metrics.jsonl", self.history)

    def restore(self) -> None:
        """Go back to the last checkpoint, if there is one."""
        path = self.run_dir / checkpoint.CHECKPOINT
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
