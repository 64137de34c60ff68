"""Train a model on the data of another one, which teaches it: smaller, and nearly as good."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shortlist.training.fit.checkpoint import open_run_folder
from shortlist.training.fit.example import Example
from shortlist.training.fit.fit import TrainedModel, build_model, finish
from shortlist.training.fit.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shortlist.training.config.sections import Config
    from shortlist.training.models.two_tower import TwoTower

__all__ = ["train_student"]


def train_student(
    teacher: TrainedModel,
    config: Config,
    run_dir: Path,
    begin: Callable[[TwoTower], None],
    *,
    share: float,
    progress: bool = True,
) -> TrainedModel:
    """Train a model on the data of another one that teaches it.

    Parameters
    ----------
    teacher : TrainedModel
    config : Config
        Of the student: the sections of the data as they are there.
    run_dir : Path
        A new folder, for the result.
    begin : callable
        Gives the untrained student its first weights.
    share : float
        Part of the target that the teacher says.
    progress : bool
        Show a progress bar.

    Returns
    -------
    TrainedModel
        With the weights of the epoch that is best on validation.

    Raises
    ------
    DataError
        The folder holds a run; the student cannot be taught.
    """
    split, dataset = teacher.split, teacher.split.dataset
    features = replace(teacher.features, history_length=config.model.history_length)
    open_run_folder(run_dir, dataset, config, features, resume=False)
    model = build_model(config, features, dataset, split)
    begin(model)
    example = Example(teacher.two_tower, share, teacher.config.train.temperature)
    loop = Loop(model, config, split, run_dir, example=example)
    loop.run(progress, None)
    model.set_weights(loop.best)
    return finish(model, loop.history, split, run_dir, progress=progress)
