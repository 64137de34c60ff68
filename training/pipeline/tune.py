"""`shortlist tune`: search settings with Optuna, on validation NDCG@10 alone.

The folder of a study holds ``study.log`` (Optuna's journal), a run folder for each trial,
``trials.md``, ``trials.png`` and ``best.toml``. A study that was killed goes on where it stopped:
the trial under way resumes from its last checkpoint.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from shortlist._quiet import quiet_start
from shortlist.errors import DataError
from shortlist.training.cleaning.files import load_configured
from shortlist.training.config.environment import require_tensorflow
from shortlist.training.config.sections import Config
from shortlist.training.config.settings import apply_overrides, load_config, to_toml
from shortlist.training.evaluation.plots import plot_trials
from shortlist.training.fit.checkpoint import write_atomic
from shortlist.training.pipeline.train import check_data
from shortlist.training.privacy.settings import is_private
from shortlist.training.splits.split import configured_split

if TYPE_CHECKING:
    from shortlist.training.data.events import Dataset
    from shortlist.training.fit.loop import EpochRow

METRIC = "NDCG@10"
JOURNAL = "study.log"
RANGE_KEYS = {"low", "high", "log"}
# By setting: choices, or a range of numbers with the keys above.
Space: TypeAlias = "Mapping[str, list[object] | dict[str, float]]"


@dataclass(frozen=True)
class TuneReport:
    """What a search found.

    Attributes
    ----------
    best : dict of str to object
        The best settings that were searched, by name.
    ndcg_at_10 : float
        On validation, with these.
    n_trials : int
        Trials of the study in all.
    folder : Path
        Of the study.
    """

    best: dict[str, object]
    ndcg_at_10: float
    n_trials: int
    folder: Path

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return {
            "best": self.best,
            METRIC: self.ndcg_at_10,
            "n_trials": self.n_trials,
            "folder": str(self.folder),
        }


def read_space(path: Path, config: Config) -> Space:
    """Read a search space from TOML, and try both ends of every entry on the settings.

    Parameters
    ----------
    path : Path
        ``[train]`` and other sections as in settings; a value is a list of choices or
        ``{low = …, high = …, log = true}``, of whole numbers if both ends are.
    config : Config
        What the settings are that the space does not name.

    Returns
    -------
    dict
        ``{"train.learning_rate": {"low": 1e-4, …}, "model.encoder": ["pool", "hstu"]}``
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"space: cannot read {path}: {error}") from error
    space: dict[str, list[object] | dict[str, float]] = {}
    for section, entries in tree.items():
        if not isinstance(entries, dict):
            raise DataError(f"space: {section}: got {entries!r}, expected a [{section}] table")
        for name, entry in entries.items():
            key = f"{section}.{name}"
            for value in _ends(key, entry):
                apply_overrides(config, {key: value})
            space[key] = entry
    if not space:
        raise DataError(f"space: got no settings in {path}, expected at least one to search")
    return space


def _ends(key: str, entry: object) -> list[object]:
    if isinstance(entry, list) and entry:
        return entry
    if isinstance(entry, dict) and {"low", "high"} <= set(entry) <= RANGE_KEYS:
        low, high = entry["low"], entry["high"]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (low, high))
        if numbers and low < high and (low > 0 or not entry.get("log")):
            return [low, high]
    raise DataError(
        f"space: {key}: got {entry!r}, expected a list of choices or {{low = …, high = …}} with "
        "low < high, and log = true only above 0"
    )


def tune_files(
    *,
    space_path: Path,
    folder: Path,
    n_trials: int,
    preset: str | None = None,
    config_path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    seed: int = 1,
    progress: bool = True,
) -> TuneReport:
    """Tune on the configured data, as `tune` does; settings as for `config.load_config`."""
    require_tensorflow()
    config = load_config(preset, config_path, overrides)
    if is_private(config):
        raise DataError(
            f"privacy.epsilon: got {config.privacy.epsilon:g} in a search, expected no [privacy]: "
            "each trial would cost privacy, and the choice by validation events too. Fix: tune on "
            "public events, and give the settings to `shortlist train`"
        )
    check_data(config)
    space = read_space(space_path, config)
    dataset, _ = load_configured(config, progress=progress)
    return tune(dataset, config, space, folder, n_trials=n_trials, seed=seed, progress=progress)


def tune(
    dataset: Dataset,
    config: Config,
    space: Space,
    folder: Path,
    *,
    n_trials: int,
    seed: int = 1,
    progress: bool = True,
) -> TuneReport:
    """Train with settings drawn from a space; poor trials stop early.

    Parameters
    ----------
    dataset : Dataset
    config : Config
        The settings that the space does not name.
    space : mapping
        From `read_space`.
    folder : Path
        Of the study; an unfinished one goes on.
    n_trials : int
        Trials of the study in all, those already there included.
    seed : int
        Of the search.
    progress : bool
        Show the progress of each training.
    """
    if not configured_split(dataset, config).target_events("valid").height:
        raise DataError(
            f"tune: got no validation events in {dataset.name}, expected some to compare settings "
            "on; give users 3 events or more, or raise split.valid"
        )
    folder.mkdir(parents=True, exist_ok=True)
    study = _open_study(folder, space, seed)
    search = _Search(dataset, config, space, folder, progress)
    while len(_finished(study)) < n_trials:
        study.optimize(search.attempt, n_trials=1)
        _write(study, _finished(study), config, folder)
    best = study.best_trial
    return TuneReport(best.params, best.value, len(_finished(study)), folder)


@dataclass(frozen=True)
class _Search:
    """What the trials of a study have in common."""

    dataset: Dataset
    config: Config
    space: Space
    folder: Path
    progress: bool

    def attempt(self, trial: Any) -> float:
        """Train with settings of a trial; returns NDCG@10, or says that the trial stopped early."""
        import optuna

        with quiet_start():
            from shortlist.training.fit import fit, loop
        settings = {key: _draw(trial, key, entry) for key, entry in self.space.items()}
        run = trial.user_attrs.get("run") or f"trial_{trial.number:04d}"
        trial.set_user_attr("run", run)

        def report(epoch: int, row: EpochRow) -> None:
            if METRIC in row:
                trial.report(row[METRIC], epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned

        try:
            trained = fit.train(
                self.dataset,
                apply_overrides(self.config, settings),
                self.folder / run,
                resume=True,
                progress=self.progress,
                on_epoch=report,
            )
        except loop.DivergedError as error:
            raise optuna.TrialPruned from error
        return trained.metrics[METRIC]


def _open_study(folder: Path, space: Space, seed: int) -> Any:
    """Begin a study in a folder, or go on with the one that is there."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
        study_name="tune",
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )
    _check_same_space(study, space)
    # Of a study that goes on, the search must not draw the same settings again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    _go_on_with_stopped(study)
    return study


def _finished(study: Any) -> list[Any]:
    return [t for t in study.trials if t.state.name in ("COMPLETE", "PRUNED")]


def _go_on_with_stopped(study: Any) -> None:
    """Line up the trials that a kill or an error stopped: same settings, same run folder."""
    for trial in study.trials:
        if trial.state.name == "RUNNING":  # its process is gone
            study.tell(trial.number, state=type(trial.state).FAIL)
    runs = {t.user_attrs.get("run") for t in study.trials if t.state.name != "FAIL"}
    for trial in study.trials:
        run = trial.user_attrs.get("run")
        if trial.state.name == "FAIL" and run is not None and run not in runs:
            study.enqueue_trial(trial.params, user_attrs={"run": run})
            runs.add(run)


def _draw(trial: Any, key: str, entry: Any) -> Any:
    if isinstance(entry, list):
        return trial.suggest_categorical(key, entry)
    draw = trial.suggest_int
    if isinstance(entry["low"], float) or isinstance(entry["high"], float):
        draw = trial.suggest_float
    return draw(key, entry["low"], entry["high"], log=bool(entry.get("log")))


def _check_same_space(study: Any, space: Space) -> None:
    before = study.user_attrs.get("space")
    if before is not None and before != dict(space):
        raise DataError(
            f"space: got {dict(space)}, expected {before} as in the study so far; use another "
            "folder for another space"
        )
    study.set_user_attr("space", dict(space))


def _write(study: Any, trials: list[Any], config: Config, folder: Path) -> None:
    """Write the table, the picture and the best settings so far."""
    keys = sorted({key for trial in trials for key in trial.params})
    lines = ["| trial | " + " | ".join([METRIC, "epochs", "", *keys]) + " |"]
    lines.append("|---" * (len(keys) + 4) + "|")
    for trial in trials:
        value = trial.value if trial.value is not None else float("nan")
        state = "" if trial.state.name == "COMPLETE" else "stopped early"
        cells = [f"{value:.4f}", str(trial.last_step or 0), state]
        cells += [str(trial.params.get(key, "")) for key in keys]
        lines.append("| " + " | ".join([str(trial.number), *cells]) + " |")
    write_atomic(folder / "trials.md", ("\n".join(lines) + "\n").encode())
    plot_trials([trial.value for trial in trials], folder / "trials.png")
    if any(trial.state.name == "COMPLETE" for trial in trials):
        best = apply_overrides(config, study.best_trial.params)
        write_atomic(folder / "best.toml", to_toml(best).encode())
