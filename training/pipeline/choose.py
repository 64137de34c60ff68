"""Choose the settings that the user does not give: what `shortlist train` does without a preset.

Closed-form models are fitted and measured. Encoders are trained by successive halving (Jamieson and
Talwalkar, AISTATS 2016): all for a few epochs, the better half for a few more, the best to its end.
Everything is judged on validation NDCG@10. `candidates` says what is tried.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.errors import DataError
from shortlist.training.config.settings import apply_overrides
from shortlist.training.evaluation.evaluate import Ranker, evaluate_users
from shortlist.training.evaluation.ranker import TwoTowerRanker
from shortlist.training.features.features import FeatureSet
from shortlist.training.fit import checkpoint, fit
from shortlist.training.fit.loop import DivergedError, EpochRow, Loop
from shortlist.training.models.linear import build_baseline
from shortlist.training.pipeline.candidates import (
    RUNGS,
    Candidate,
    base_models,
    changed,
    encoders,
    fit_seconds,
    fitting,
    model_name,
    steps,
    variants,
)
from shortlist.training.pipeline.choice import METRIC, Attempt, Choice, Settings, save_choice

if TYPE_CHECKING:
    from shortlist.training.config.sections import Config
    from shortlist.training.data.events import Dataset
    from shortlist.training.fit.fit import TrainedModel
    from shortlist.training.splits.parts import Split

MAX_USERS = 20_000  # that a candidate is measured on
MIN_USERS = 100  # with fewer the encoders cannot be told apart, and closed-form models win
# An encoder has had a few epochs only: one that comes so near to the best closed-form model may
# still win, and is trained to its end.
PROMISING = 0.85
CLIMB_SHARE = 0.1  # of the budget, that further settings of the best closed-form model may cost


def train_chosen(
    dataset: Dataset,
    split: Split,
    config: Config,
    run_dir: Path,
    *,
    choice: Choice | None = None,
    resume: bool = False,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[TrainedModel, Choice | None]:
    """Train what the settings say, or what is chosen where they leave that open.

    Parameters
    ----------
    dataset, split, config, run_dir, progress, say
        As for `choose`; nothing is chosen where ``choice.minutes`` is 0.
    choice : Choice, optional
        That of a run to be resumed; ``config`` has its settings.
    resume : bool
        Go on with the run in the folder.

    Returns
    -------
    run : TrainedModel
    choice : Choice or None
        None where nothing was chosen. A chosen encoder that the best closed-form model beats in the
        end gives way to it.
    """
    if config.choice.minutes > 0.0 and split.target_events("valid").height == 0:
        say("nothing is chosen: no event is held out to measure on; the default model is trained")
        config = apply_overrides(config, {"choice.minutes": 0.0})
    if config.choice.minutes > 0.0:
        choice = choose(dataset, split, config, run_dir, progress=progress, say=say)
        config, resume = apply_overrides(config, choice.settings), True
    if choice is not None:
        take_over(choice, run_dir)
    run = fit.train(dataset, config, run_dir, split=split, resume=resume, progress=progress)
    if choice is None or choice.fallback is None:
        return run, choice
    whole, fallback = _whole(run, choice.chosen), choice.fallback
    attempts = (*(a for a in choice.attempts if a.name != whole.name), whole)
    choice = Choice(whole, fallback, attempts)
    if whole.score < fallback.score:
        say(f"{fallback.name} is better than {whole.name} after its training: it is taken")
        choice = Choice(fallback, None, attempts)
        checkpoint.remove_run(run_dir)
        save_choice(choice, run_dir)  # first: a call that is interrupted now goes on with it
        config = apply_overrides(config, choice.settings)
        run = fit.train(dataset, config, run_dir, split=split, progress=progress)
    save_choice(choice, run_dir)
    return run, choice


def _whole(run: TrainedModel, chosen: Attempt) -> Attempt:
    """Describe a chosen encoder after its training, with its second stage."""
    second, score = run.reranker_report, run.metrics[METRIC]
    note = f"{len(run.history)} epochs"
    if second is not None and second.is_kept and second.ndcg_at_10_with is not None:
        score, note = second.ndcg_at_10_with, f"{note}, second stage"
    seconds = sum(row["seconds"] for row in run.history)
    return Attempt(chosen.name, chosen.settings, score, None, note, round(seconds, 1))


def choose(
    dataset: Dataset,
    split: Split,
    config: Config,
    run_dir: Path,
    *,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Choice:
    """Measure candidates on validation, and choose among them.

    A chosen encoder has had its first epochs: its run is moved into the run folder, to be resumed.
    A call that was interrupted goes on where it stopped.

    Parameters
    ----------
    dataset : Dataset
    split : Split
    config : Config
        ``choice.minutes`` is what the encoders may cost; other settings go to all candidates.
    run_dir : Path
        Gets ``choice.json`` and, of a chosen encoder, the checkpoint; ``candidates/`` meanwhile.
    progress : bool
        Show a progress bar for each encoder.
    say : callable
        Takes a line of text: what was tried, what leads.

    Raises
    ------
    DataError
        Nothing was held out for validation, or no candidate could be measured.
    """
    fit.set_threads(config.train.n_threads)
    trials = _Trials(dataset, split, config, run_dir, progress, say)
    for settings in base_models(split):
        trials.fit(settings)
    closed_form = trials.best()
    if closed_form is not None:
        include_seen = config.split.include_seen
        for settings in variants(closed_form.settings, split, include_seen=include_seen):
            trials.fit(settings)
        closed_form = trials.climb()
    encoder = trials.train_encoders()
    chosen, fallback = encoder, closed_form
    if encoder is None or (
        closed_form is not None and encoder.score < PROMISING * closed_form.score
    ):
        chosen, fallback = closed_form, None
    if chosen is None:
        raise DataError(f"{dataset.name}: no model could be tried: {trials.attempts[0].note}")
    choice = Choice(chosen, fallback, tuple(trials.attempts))
    run_dir.mkdir(parents=True, exist_ok=True)
    save_choice(choice, run_dir)
    take_over(choice, run_dir)
    return choice


def take_over(choice: Choice, run_dir: Path) -> None:
    """Move the run of a chosen encoder into the run folder, and delete those of the others.

    Where that was done before, nothing happens.
    """
    candidates = run_dir / checkpoint.CANDIDATES
    source = candidates / _folder(choice.chosen.name)
    if source.exists():
        # The checkpoint last: it makes a folder that of a run.
        for path in sorted(source.iterdir(), key=lambda path: path.name == checkpoint.CHECKPOINT):
            target = run_dir / path.name
            if target.is_dir():
                shutil.rmtree(target)
            shutil.move(path, target)
    shutil.rmtree(candidates, ignore_errors=True)


class _Enough(Exception):
    pass


class _Trials:
    """The candidates that were measured so far."""

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        config: Config,
        run_dir: Path,
        progress: bool,
        say: Callable[[str], None],
    ) -> None:
        self.dataset, self.split, self.config = dataset, split, config
        self.folder = run_dir / checkpoint.CANDIDATES
        self.progress, self.say = progress, say
        self.attempts: list[Attempt] = []

    def best(self) -> Attempt | None:
        """Return the best attempt so far, the first of equals."""
        measured = [attempt for attempt in self.attempts if attempt.ndcg_at_10 is not None]
        return max(measured, key=lambda attempt: attempt.score, default=None)

    def fit(self, settings: Settings) -> Attempt:
        """Fit and measure a closed-form model."""
        name, started = model_name(settings), time.perf_counter()
        model = build_baseline(apply_overrides(self.config, settings))
        try:
            model.fit(self.split.train, self.split.catalogue, self.split.weights(self.split.train))
        except DataError as error:
            return self._add(Attempt(name, settings, None, None, str(error), 0.0))
        return self._measure(name, settings, model, "", started)

    def climb(self) -> Attempt | None:
        """Change one setting of the best closed-form model after another, while that helps."""
        best = self.best()
        if best is None:
            return None
        tried = {attempt.name for attempt in self.attempts}
        left = CLIMB_SHARE * 60.0 * self.config.choice.minutes
        n_events, n_items = self.split.train.height, len(self.split.catalogue)
        waiting = steps(self.config, best.settings)
        while waiting:
            step = waiting.pop(0)
            settings = changed(self.config, best.settings, step)
            if model_name(settings) in tried:
                continue
            left -= fit_seconds(apply_overrides(self.config, settings), n_events, n_items)
            if left < 0.0:
                break
            tried.add(model_name(settings))
            attempt = self.fit(settings)
            if attempt.score > best.score:
                best = attempt
                waiting = [step, *steps(self.config, best.settings)]
        return best

    def train_encoders(self) -> Attempt | None:
        """Train encoders by successive halving; returns the best one, to be trained to its end."""
        n_users = len(self.split.user_ids("valid"))
        if n_users < MIN_USERS:
            note = f"left out: {n_users} users to measure on, expected {MIN_USERS} or more"
            self._add(Attempt("encoders", {}, None, None, note, 0.0))
            return None
        n_examples = self.split.target_events("train").height
        everyone = encoders(self.config, n_examples, len(self.split.catalogue))
        minutes = self.config.choice.minutes
        rivals = fitting(everyone, 60.0 * minutes)
        for candidate in everyone:
            if candidate.name not in {rival.name for rival in rivals}:
                whole = candidate.epochs * candidate.epoch_seconds / 60.0
                note = f"left out: about {whole:.1f} minutes, the budget is {minutes:g} for all"
                self._add(Attempt(candidate.name, candidate.settings, None, None, note, 0.0))
        ranked: list[tuple[Attempt, Candidate]] = []
        for rung in RUNGS:
            ranked = [(self._train(rival, rung), rival) for rival in rivals]
            ranked.sort(key=lambda pair: -pair[0].score)
            rivals = [rival for _, rival in ranked[: (len(ranked) + 1) // 2]]
            if len(rivals) < 2:
                break
        return ranked[0][0] if ranked and ranked[0][0].ndcg_at_10 is not None else None

    def _train(self, candidate: Candidate, epochs: int) -> Attempt:
        """Train an encoder until it has had so many epochs, and measure it."""
        started = time.perf_counter()
        epochs = min(epochs, candidate.epochs)
        config = apply_overrides(self.config, candidate.settings | {"choice.minutes": 0.0})
        folder = self.folder / _folder(candidate.name)
        features = FeatureSet.fit(self.dataset, self.split, config)
        checkpoint.open_run_folder(folder, self.dataset, config, features, resume=True)
        model = fit.build_model(config, features, self.dataset, self.split)
        loop = Loop(model, config, self.split, folder)
        loop.restore()

        def stop(epoch: int, row: EpochRow) -> None:
            if epoch >= epochs:
                raise _Enough

        try:
            if len(loop.history) < epochs:
                loop.run(self.progress, stop)
        except _Enough:
            pass
        except DivergedError as error:
            attempt = Attempt(candidate.name, candidate.settings, None, None, str(error), 0.0)
            return self._add(attempt)
        model.set_weights(loop.best)
        ranker = TwoTowerRanker(model, self.dataset, n_threads=config.train.n_threads)
        note = f"{len(loop.history)} of {candidate.epochs} epochs"
        return self._measure(candidate.name, candidate.settings, ranker, note, started)

    def _measure(
        self, name: str, settings: Settings, ranker: Ranker, note: str, started: float
    ) -> Attempt:
        lists = evaluate_users(
            ranker,
            self.split,
            "valid",
            (10,),
            include_seen=self.config.split.include_seen,
            max_users=MAX_USERS,
        )
        seconds, interval = time.perf_counter() - started, lists.intervals()[METRIC]
        score = lists.metrics()[METRIC]
        return self._add(Attempt(name, settings, score, interval, note, round(seconds, 1)))

    def _add(self, attempt: Attempt) -> Attempt:
        """Keep an attempt, in place of an earlier one of the same name, and say how it went."""
        self.attempts = [old for old in self.attempts if old.name != attempt.name]
        self.attempts.append(attempt)
        if attempt.ndcg_at_10 is None:
            self.say(f"{attempt.name}: {attempt.note}")
            return attempt
        best = self.best()
        note = f", {attempt.note}" if attempt.note else ""
        leads = "" if best is None or best is attempt else f" ({best.name} leads: {best.score:.4f})"
        self.say(f"tried {attempt.name}{note}: {METRIC} {attempt.score:.4f}{leads}")
        return attempt


def _folder(name: str) -> str:
    return name.replace(" ", "-")
