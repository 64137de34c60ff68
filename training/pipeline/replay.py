"""Replay of real events in time order: a model never updated, one updated, one trained anew.

Protocol. Events are sorted by time; the first ``first`` part trains, the rest is cut into
``cycles`` of equally many events, events of one second never on both sides of a cut. In each cycle
every event is ranked just before it happens: the history is all the user's events before it, those
of the same cycle included, as an engine with a feedback log would know them; each model ranks all
items that it was trained with, but for those of the history. Left out are events without any event
of their user before them, and items that the user had before. With ``split.include_seen`` items of
the history are ranked and count. NDCG@10 is averaged over a user's events of the cycle, then over
users; intervals are 95 % bootstrap intervals over users, paired for differences. After a cycle its
events go into a feedback log, and

- never updated: stays as trained on the first part;
- updated: goes on from its own last state as `shortlist update` does, on all new events of the log;
- trained anew: is trained from its first weights on all events so far, with the same settings.

In the first cycle the three are one model. Nothing is held out for validation: the number of epochs
is that of the settings.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from shortlist.errors import DataError
from shortlist.feedback import FeedbackLog
from shortlist.training.data.events import Dataset
from shortlist.training.evaluation.metrics import bootstrap_intervals
from shortlist.training.evaluation.next_events import NextEvents, OwnCatalogue, per_user
from shortlist.training.evaluation.replays import (
    ANEW,
    NEVER,
    UPDATED,
    Cycle,
    ReplayMean,
    ReplayReport,
    replay_table,
)
from shortlist.training.fit.fit import TrainedModel, train
from shortlist.training.fit.warm_start import go_on
from shortlist.training.splits.parts import Split
from shortlist.training.updates.new_events import add_events, new_events

if TYPE_CHECKING:
    from collections.abc import Callable

    from shortlist.training.config.sections import Config
    from shortlist.training.data.arrays import Floats

__all__ = ["cut_cycles", "replay", "replay_table"]


def replay(
    dataset: Dataset,
    config: Config,
    work: Path,
    *,
    cycles: int = 6,
    first: float = 0.7,
    progress: bool = True,
    on_cycle: Callable[[Cycle], None] | None = None,
) -> ReplayReport:
    """Replay a dataset; the module says by which protocol.

    Parameters
    ----------
    dataset : Dataset
        With times.
    config : Config
        ``[train]`` of the full trainings, ``[update]`` of the updates.
    work : Path
        A new folder for the run folders and the feedback log.
    cycles : int
    first : float
        Part of the events before the first cycle.
    progress : bool
        Show progress bars.
    on_cycle : callable, optional
        Called with each cycle when it is done.
    """
    if work.exists():
        raise DataError(f"replay: {work} exists, expected a new folder; remove it or name another")
    work.mkdir(parents=True)
    known, parts = cut_cycles(dataset, cycles, first)
    fresh, seconds = _timed(partial(_train_anew, known, config, work / "anew-1", progress))
    models = {NEVER: fresh, UPDATED: fresh, ANEW: fresh}
    times = {UPDATED: 0.0, ANEW: seconds}
    rows: list[Cycle] = []
    with FeedbackLog(work / "feedback.log") as log:
        for number, part in enumerate(parts, 1):
            rows.append(_served(number, models, dict(times), known, part, config))
            if on_cycle is not None:
                on_cycle(rows[-1])
            if number == cycles:
                break
            log.append_many(part)
            arrived = new_events(log, known, config)
            known = add_events(known, arrived)
            cut, run_dir = _all_trains(known, config), work / f"updated-{number + 1}"
            go = partial(go_on, models[UPDATED], cut, config, run_dir, progress=progress)
            models[UPDATED], times[UPDATED] = _timed(go)
            run_dir = work / f"anew-{number + 1}"
            go = partial(_train_anew, known, config, run_dir, progress)
            models[ANEW], times[ANEW] = _timed(go)
    report = ReplayReport(dataset.name, first, tuple(rows), _mean(rows))
    text = json.dumps(report.to_dict(), indent=1)
    (work / "replay.json").write_text(text, encoding="utf-8")
    return report


def cut_cycles(dataset: Dataset, cycles: int, first: float) -> tuple[Dataset, list[pl.DataFrame]]:
    """Cut a dataset by time into what is known at first and the events of each cycle."""
    if not dataset.has_times:
        raise DataError(f"replay: {dataset.name} has no times, expected events with timestamps")
    times = np.sort(dataset.events["timestamp"].to_numpy())
    shares = first + (1.0 - first) * np.arange(cycles) / cycles
    cuts = [int(times[min(round(len(times) * share), len(times) - 1)]) for share in shares]
    ends = [*cuts[1:], int(times[-1]) + 1]
    when = pl.col("timestamp")
    parts = [
        dataset.events.filter((when >= low) & (when < high))
        for low, high in zip(cuts, ends, strict=True)
    ]
    known = dataset.events.filter(when < cuts[0])
    if known.height == 0 or any(part.height == 0 for part in parts):
        raise DataError(
            f"replay: got {times.size:,} events, of which {known.height:,} come first, expected "
            f"some there and in each of {cycles} cycles; ask for fewer cycles"
        )
    return Dataset(dataset.name, known, dataset.items, dataset.users), parts


def _all_trains(known: Dataset, config: Config) -> Split:
    none = known.events.clear()
    return Split(known, known.events, none, none, "temporal", config.events)


def _train_anew(known: Dataset, config: Config, run_dir: Path, progress: bool) -> TrainedModel:
    return train(known, config, run_dir, split=_all_trains(known, config), progress=progress)


def _timed(work: Callable[[], TrainedModel]) -> tuple[TrainedModel, float]:
    """Measure processor time: unlike the clock it does not see what else the machine does."""
    started = time.process_time()
    model = work()
    return model, round(time.process_time() - started, 1)


def _served(
    number: int,
    models: dict[str, TrainedModel],
    seconds: dict[str, float],
    known: Dataset,
    part: pl.DataFrame,
    config: Config,
) -> Cycle:
    """Rank a cycle's events with every model; each model once, also where it has several names."""
    both = add_events(known, part)
    split = Split(both, known.events, part.clear(), part, "temporal", config.events)
    events = NextEvents.of(
        split, known.events, part, config.events, include_seen=config.split.include_seen
    )
    is_warm = events.n_known > 0
    by_model: dict[int, Floats] = {}
    for model in models.values():
        if id(model) not in by_model:
            ranker = OwnCatalogue(model.ranker(), model.split.catalogue, split)
            ndcg = events.ndcg(ranker)[is_warm]
            by_model[id(model)] = per_user(events.user_ids[is_warm], ndcg)
    users = {name: by_model[id(model)] for name, model in models.items()}
    differences = {
        "updated − never": users[UPDATED] - users[NEVER],
        "updated − anew": users[UPDATED] - users[ANEW],
    }
    return Cycle(
        cycle=number,
        n_events=part.height,
        seconds=seconds,
        until=int(part["timestamp"].to_numpy().max()),
        n_train=known.events.height,
        n_users=len(users[NEVER]),
        n_ranked=int(is_warm.sum()),
        n_cold=int((~is_warm).sum()),
        ndcg={name: float(values.mean()) for name, values in users.items()},
        differences={name: float(values.mean()) for name, values in differences.items()},
        intervals=bootstrap_intervals(users | differences),
    )


def _mean(rows: list[Cycle]) -> ReplayMean:
    """Average over the cycles after the first one, in which all models are one."""
    later = rows[1:] or rows
    ndcg = {name: float(np.mean([row.ndcg[name] for row in later])) for name in rows[0].ndcg}
    seconds = {name: float(sum(row.seconds[name] for row in later)) for name in (UPDATED, ANEW)}
    return ReplayMean(
        ndcg=ndcg,
        quality_part=_part(ndcg[UPDATED], ndcg[ANEW]),
        least_quality_part=min(_part(row.ndcg[UPDATED], row.ndcg[ANEW]) for row in later),
        time_part=_part(seconds[UPDATED], seconds[ANEW]),
    )


def _part(value: float, whole: float) -> float:
    return value / whole if whole else 0.0
