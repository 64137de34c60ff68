"""What `shortlist train` tries where the user gives no settings, and what fits into the budget.

What an encoder costs is computed from the sizes of the data and not from a clock, so the same data,
settings and seed choose the same on every machine. `docs/quality.md` says why these candidates.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shortlist.training.config.settings import apply_overrides
from shortlist.training.models.item_item import MAX_PAIRS, count_pairs
from shortlist.training.models.linear import is_affordable
from shortlist.training.pipeline.choice import Settings

if TYPE_CHECKING:
    from shortlist.training.config.sections import Config
    from shortlist.training.splits.parts import Split

__all__ = [
    "RUNGS",
    "Candidate",
    "base_models",
    "changed",
    "encoders",
    "epoch_seconds",
    "fit_seconds",
    "fitting",
    "model_name",
    "steps",
    "variants",
]

RUNGS = (2, 6)  # epochs after which the better half, then the best encoder alone, goes on
MIN_EPOCHS = 3  # fewer teach an encoder too little
MANY_EXAMPLES = 300_000  # from here on an epoch has the steps that several have of fewer examples
FACTOR_EXAMPLES = 100_000  # from here on the second stage gains by more linear factors
# By what settings of the best closed-form model are multiplied and divided.
FACTORS = {
    "ease": {"linear.ease_l2": 2.0, "linear.trend": 2.0, "linear.trend_days": 2.0},
    "cooccurrence": {"linear.trend": 2.0, "linear.trend_days": 2.0},
    "item-knn": {"linear.trend": 2.0, "linear.trend_days": 2.0},
    "ials": {"linear.als_l2": 4.0, "linear.als_alpha": 2.0},
}
SPEED = 4e10  # products and sums a second of training, on two shared cores (benchmarks/training.py)

_NAMES = {"cooccurrence": "co-occurrence", "ease": "EASE", "ials": "iALS"}
_SAID = {
    "linear.ease_l2": "l2",
    "linear.als_l2": "l2",
    "linear.als_alpha": "alpha",
    "linear.repeat": "repeats",
}


@dataclass(frozen=True)
class Candidate:
    """An encoder to be tried.

    Attributes
    ----------
    name : str
    settings : dict of str to object
        What differs from the defaults, by setting.
    epochs : int
        Of a whole training.
    epoch_seconds : float
        As `epoch_seconds` computes them.
    """

    name: str
    settings: Settings
    epochs: int
    epoch_seconds: float

    def with_epochs(self, epochs: int) -> Candidate:
        """Return it with fewer or more epochs."""
        settings = self.settings | {"train.epochs": epochs}
        return dataclasses.replace(self, settings=settings, epochs=epochs)


def base_models(split: Split) -> Iterator[Settings]:
    """Give the closed-form models that these data allow."""

    def model(encoder: str, history_length: int, **linear: object) -> Settings:
        own = {f"linear.{name}": value for name, value in linear.items()}
        length = {"model.history_length": history_length}
        return {"model.encoder": encoder, "linear.refit": True} | length | own

    yield {"model.encoder": "popularity", "linear.refit": True}
    n_items = len(split.catalogue)
    if is_affordable("ease", n_items):
        yield model("cooccurrence", 100)
        if count_pairs(split.train) <= MAX_PAIRS:
            yield model("item-knn", 10_000)
        for l2 in (100.0, 400.0, 1600.0):
            yield model("ease", 10_000, ease_l2=l2)
        for l2 in (300.0, 900.0):
            yield model("ease", 10_000, ease_l2=l2, ease_user_power=0.375, ease_item_power=0.1)
    if importlib.util.find_spec("implicit") is not None:
        yield model("ials", 1000) | {"model.dim": 64}


def variants(settings: Settings, split: Split, *, include_seen: bool) -> Iterator[Settings]:
    """Give variants of the best closed-form model; popularity has none."""
    encoder = settings["model.encoder"]
    if encoder == "ials":
        for dim in (128, 256):
            yield settings | {"model.dim": dim}
    elif encoder != "popularity":
        if include_seen:
            yield settings | {"linear.repeat": 10.0, "model.history_length": 1000}
        if split.dataset.has_times:
            for trend in (0.1, 0.5, 1.6):
                yield settings | {"linear.trend": trend, "linear.trend_days": 15.0}


def steps(config: Config, settings: Settings) -> list[tuple[str, float]]:
    """Return what may be changed about a closed-form model: settings, and factors of their values.

    Parameters
    ----------
    config : Config
        What the settings are that ``settings`` does not name.
    settings : dict of str to object
    """
    own = apply_overrides(config, settings)
    found = []
    for key, factor in FACTORS.get(own.model.encoder, {}).items():
        is_used = own.linear.trend > 0.0 or not key.startswith("linear.trend")
        if is_used:
            found += [(key, factor), (key, 1.0 / factor)]
    return found


def changed(config: Config, settings: Settings, step: tuple[str, float]) -> Settings:
    """Return the settings after a step."""
    key, factor = step
    linear = apply_overrides(config, settings).linear
    return settings | {key: getattr(linear, key.removeprefix("linear.")) * factor}


def fit_seconds(config: Config, n_events: int, n_items: int) -> float:
    """Return what the fit of a closed-form model takes, about, computed from its products."""
    if config.model.encoder == "ease":
        return 2.0 * n_items**3 / SPEED
    if config.model.encoder == "ials":
        return 4.0 * config.linear.als_iterations * n_events * config.model.dim**2 / SPEED
    return 1.0


def model_name(settings: Settings) -> str:
    """Name a closed-form model by what differs from the defaults."""
    encoder = str(settings["model.encoder"])
    name = _NAMES.get(encoder, encoder)
    if encoder == "ials":
        name = f"{name} of {settings['model.dim']}"
    if "linear.ease_user_power" in settings:
        name = f"damped {name}"
    for key, said in _SAID.items():
        if key in settings:
            name = f"{name}, {said} {settings[key]:g}"
    if "linear.trend" in settings:
        trend, days = settings["linear.trend"], settings["linear.trend_days"]
        name = f"{name}, trend {trend:g} of {days:g} days"
    return name


def encoders(config: Config, n_examples: int, n_items: int) -> list[Candidate]:
    """Return the encoders worth trying, each with all its epochs.

    Parameters
    ----------
    config : Config
        The settings that a candidate does not name.
    n_examples : int
        Train events that are targets.
    n_items : int
        Of the catalogue.
    """
    found = []
    for name, settings in _encoder_settings(n_examples).items():
        own = apply_overrides(config, settings)
        seconds = epoch_seconds(own, n_examples, n_items)
        found.append(Candidate(name, settings, own.train.epochs, seconds))
    return found


def epoch_seconds(config: Config, n_examples: int, n_items: int) -> float:
    """Return what an epoch takes on two shared cores, computed from its products."""
    model, n_scored = config.model, n_items
    if config.train.loss != "full" and (
        n_items > config.train.full_softmax_limit or config.train.loss != "auto"
    ):
        n_scored = config.train.n_negatives
    layer = 8 * model.dim**2 + 4 * model.dim * model.hidden + 4 * model.history_length * model.dim
    encoder = layer * (1 if model.encoder == "pool" else model.n_blocks)
    return 6.0 * n_examples * (n_scored * model.dim + encoder) / SPEED


def fitting(candidates: list[Candidate], seconds: float) -> list[Candidate]:
    """Return the candidates that fit into the budget together, the dearest left out first.

    The last one that is left gets fewer epochs if that makes it fit.

    Parameters
    ----------
    candidates : list of Candidate
    seconds : float
        The budget.
    """
    kept = sorted(candidates, key=lambda candidate: candidate.epoch_seconds)
    while len(kept) > 1 and _cost(kept) > seconds:
        del kept[-1]
    if kept and _cost(kept) > seconds:
        epochs = int(seconds / kept[0].epoch_seconds)
        kept = [kept[0].with_epochs(epochs)] if epochs >= MIN_EPOCHS else []
    return [candidate for candidate in kept if candidate.epochs >= 1]


def _cost(candidates: list[Candidate]) -> float:
    """Return the seconds of trying these and training the one that costs most."""
    by_cost = sorted((c.epoch_seconds for c in candidates), reverse=True)
    first, second = RUNGS
    half = by_cost[: (len(by_cost) + 1) // 2]
    longest = max(c.epoch_seconds * max(0, c.epochs - second) for c in candidates)
    return first * sum(by_cost) + (second - first) * sum(half) + longest


def _encoder_settings(n_examples: int) -> dict[str, Settings]:
    """Return the settings of the encoders by name; all taught by what follows what but `pool`."""
    taught: Settings = {
        "model.encoder": "transformer",
        "train.history_dropout": 0.0,
        "train.item_init": "cooccurrence",
        "scorer.enabled": True,
    }
    if n_examples >= FACTOR_EXAMPLES:
        taught |= {"scorer.n_factors": 128, "scorer.factor_l2": 100.0}
    narrow: Settings = {"model.dim": 64, "model.history_length": 100, "model.hidden": 256}
    if n_examples < MANY_EXAMPLES:
        narrow |= {"model.n_blocks": 1, "model.dropout": 0.3}
        narrow |= {"train.epochs": 40, "train.batch_size": 1024}
    else:
        narrow |= {"train.epochs": 18, "train.batch_size": 2048}
    wide: Settings = {
        "model.dim": 256,
        "model.hidden": 256,
        "model.n_blocks": 1,
        "model.n_heads": 4,
        "model.dropout": 0.3,
        "train.epochs": 8,
        "train.batch_size": 1024,
    }
    return {
        "pool of 64": {
            "model.encoder": "pool",
            "model.dropout": 0.4,
            "train.epochs": 12,
            "train.batch_size": 1024,
            "train.learning_rate": 4e-3,
            "train.temperature": 0.1,
            "train.label_smoothing": 0.1,
            "scorer.enabled": True,
        },
        "transformer of 64": taught | narrow | {"train.teacher": 0.1},
        "transformer of 256": taught | wide | {"train.teacher": 0.2},
    }
