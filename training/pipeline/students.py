"""Smaller models of a finished run: parts of it are pruned, or a student is taught by it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from shortlist.errors import DataError
from shortlist.training.config.settings import apply_overrides, load_config
from shortlist.training.evaluation.evaluate import evaluate_users
from shortlist.training.evaluation.ranker import TwoTowerRanker
from shortlist.training.fit.fit import build_model
from shortlist.training.fit.student import train_student
from shortlist.training.models.linear import is_closed_form
from shortlist.training.models.pruning import (
    check_prunable,
    importance,
    shapes,
    take_part,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from shortlist.training.config.sections import Config
    from shortlist.training.fit.fit import TrainedModel
    from shortlist.training.models.pruning import Batch, Shape
    from shortlist.training.models.two_tower import TwoTower

__all__ = ["distilled", "pruned"]

EPOCHS = 3  # after pruning; early stopping may end them before
RATE = 0.5  # of the learning rate of the training
PRUNED_SHARE, DISTILLED_SHARE = 0.5, 0.9  # of the target, that the teacher says
N_USERS, BATCH = 1024, 64  # that say what units are worth
MAX_USERS = 2000  # that rank the shapes
OF_DATA = ("data", "cleaning", "events", "split", "choice", "update", "export", "privacy", "scorer")


def pruned(
    run: TrainedModel,
    part: float,
    run_dir: Path,
    *,
    overrides: Mapping[str, object],
    say: Callable[[str], None],
) -> TrainedModel:
    """Take a part of the multiplications out of a run's user encoder, and train it on a little.

    Parameters
    ----------
    run : TrainedModel
    part : float
        Of the multiplications for a full history, that is saved at least.
    run_dir : Path
        A new folder, for the result.
    overrides : mapping
        Settings of the fine-tuning, such as ``train.epochs``.
    say : callable
        Gets a line for each shape.

    Returns
    -------
    TrainedModel
        Of the shape that ranks best before the fine-tuning, on validation.
    """
    old, settings = run.two_tower, run.config.model
    check_prunable(settings.encoder, settings.n_members)
    worth = importance(old, _held_out(run))
    best: tuple[float, Shape] | None = None
    for shape in shapes(old, part):
        model = build_model(_config(run, shape), run.features, run.split.dataset, run.split)
        take_part(model, old, shape, worth)
        lists = evaluate_users(
            TwoTowerRanker(model, run.split.dataset, n_threads=1),
            run.split,
            "valid",
            (10,),
            include_seen=run.config.split.include_seen,
            max_users=MAX_USERS,
        )
        found = lists.metrics()["NDCG@10"]
        say(f"{_described(shape)}: NDCG@10 {found:.4f} before fine-tuning")
        if best is None or found > best[0]:
            best = found, shape
    assert best is not None
    shape = best[1]
    rate = run.config.train.learning_rate * RATE
    tuning = {"train.epochs": EPOCHS, "train.learning_rate": rate}
    config = apply_overrides(_config(run, shape), tuning | dict(overrides))
    say(f"fine-tuning {_described(shape)}")
    return train_student(
        run,
        config,
        run_dir,
        lambda model: take_part(model, old, shape, worth),
        share=PRUNED_SHARE,
        progress=False,
    )


def distilled(
    run: TrainedModel,
    preset: str,
    run_dir: Path,
    *,
    overrides: Mapping[str, object],
    say: Callable[[str], None],
) -> TrainedModel:
    """Train a model of a preset on a run's data, taught by the run.

    Parameters
    ----------
    run, run_dir, overrides, say
        As for `pruned`.
    preset : str
        Gives ``[model]`` and ``[train]``; ``gru`` is the preset ``pool`` with that encoder.
    """
    config = student_config(run.config, preset, overrides)
    if is_closed_form(config):
        raise DataError(
            f"--distil: got {preset!r}, whose encoder {config.model.encoder!r} is fitted in one "
            "step and learns from no teacher; expected 'pool', 'gru', or a preset of one of them"
        )
    say(f"teaching a student of the encoder {config.model.encoder!r}")
    return train_student(
        run,
        config,
        run_dir,
        lambda model: _begin_with_items(model, run.two_tower),
        share=DISTILLED_SHARE,
        progress=False,
    )


def student_config(config: Config, preset: str, overrides: Mapping[str, object]) -> Config:
    """Give the settings of a student: a preset's model and training, all else as its teacher's."""
    chosen = load_config("pool" if preset == "gru" else preset)
    if preset == "gru":
        chosen = apply_overrides(chosen, {"model.encoder": "gru", "model.n_blocks": 1})
    same = {name: getattr(config, name) for name in OF_DATA}
    student = dataclasses.replace(chosen, **same)
    width = {"model.dim": config.model.dim, "train.n_threads": config.train.n_threads}
    return apply_overrides(student, width | dict(overrides))


def _begin_with_items(model: TwoTower, old: TwoTower) -> None:
    """Give a student its teacher's item embeddings; the main directions of them, if it has fewer.

    Content embeddings come along where they are as long.
    """
    pairs = list(zip(model.item_encoder.weights, old.item_encoder.weights, strict=True))
    if all(tuple(new.shape) == tuple(weight.shape) for new, weight in pairs):
        for new, weight in pairs:
            new.assign(weight)
        return
    vectors = old.item_vectors()
    left, values, _ = np.linalg.svd(vectors, full_matrices=False)
    n = min(model.dim, vectors.shape[1])
    first = np.zeros((len(vectors), model.dim), np.float32)
    first[:, :n] = left[:, :n] * values[:n]
    model.begin_with(first, np.ones(len(first), np.bool_))


def _config(run: TrainedModel, shape: Shape) -> Config:
    """Give a run's settings with a smaller shape."""
    model = run.config.model
    changed: dict[str, Any] = {
        "model.hidden": shape.hidden,
        "model.history_length": shape.length,
    }
    if model.encoder != "pool":
        width = model.head_width or model.dim // model.n_heads
        changed |= {"model.n_blocks": len(shape.blocks), "model.n_heads": shape.n_heads}
        changed["model.head_width"] = width
    return apply_overrides(run.config, changed)


def _described(shape: Shape) -> str:
    blocks = ", ".join(str(number + 1) for number in shape.blocks)
    return (
        f"block {blocks}, {shape.n_heads} heads, {shape.hidden} hidden units, {shape.length} "
        f"items, {shape.cost:.0%} of the multiplications"
    )


def _held_out(run: TrainedModel) -> Iterator[Batch]:
    """Give validation users with a history and one of their held-out items."""
    split, ranker = run.split, TwoTowerRanker(run.two_tower, run.split.dataset, n_threads=1)
    histories, targets = split.histories("train"), split.targets("valid")
    has_both = (histories.lengths > 0) & (targets.lengths > 0)
    users = np.flatnonzero(has_both)[:: max(1, int(has_both.sum()) // N_USERS)]
    for start in range(0, len(users), BATCH):
        some = users[start : start + BATCH]
        lists = [histories.rows_of(int(i)) for i in some]
        codes, inputs = ranker.encoded(lists, histories.user_ids[some])
        aims = np.array([targets.rows_of(int(i))[0] + 1 for i in some])
        columns = {**run.features.usual_events(codes), **inputs}
        yield codes, aims, columns
