"""What can be set, one dataclass per TOML section.

A field's metadata holds its allowed range or choices and its help, so that reading, overriding and
the error messages share one source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from shortlist.bundle.storages import STORAGES
from shortlist.errors import DataError
from shortlist.training.config.feature_spec import FeatureSpec

FORMATS = ("auto", "events", "movielens", "recbole", "sasrec", "s3rec", "lightgcn")
TIME_UNITS = ("auto", "s", "ms", "us", "ns")
LOSSES = ("auto", "full", "sampled", "gbce", "bpr")
ENCODERS = ("pool", "gru", "transformer", "hstu")
CLOSED_FORM = ("popularity", "item-knn", "cooccurrence", "ease", "ials")  # fitted, not trained
ACTIVATIONS = ("sigmoid", "relu", "tanh", "gelu")


def _number(default: float, low: float, high: float = math.inf, *, text: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "help": text})


def _choice(default: str, *choices: str, text: str) -> Any:
    return field(default=default, metadata={"choices": choices, "help": text})


def _other(default: Any, *, text: str, **metadata: Any) -> Any:
    metadata["help"] = text
    return field(default=default, metadata=metadata)


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise DataError(f"{key}: got {value!r}, expected text")
    return value


def _names(text: str) -> dict[str, Any]:
    return {"parse": _text, "is_text": True, "help": text}


@dataclass(frozen=True)
class DataConfig:
    """Section ``[data]``: which tables, and the kinds of their columns."""

    path: str = _other("", text="data set name or path")
    format: str = _choice("auto", *FORMATS, text="how the files are laid out")
    items: str = _other("", text="path of the item table, if not part of the data set")
    users: str = _other("", text="path of the user table, if not part of the data set")
    columns: dict[str, str] = field(
        default_factory=dict,
        metadata=_names('our column of the events = its name in the table, user_id = "customer"'),
    )
    item_columns: dict[str, str] = field(
        default_factory=dict, metadata=_names('the same of the item table, item_id = "sku"')
    )
    user_columns: dict[str, str] = field(
        default_factory=dict, metadata=_names('the same of the user table, user_id = "customer"')
    )
    lists: dict[str, str] = field(
        default_factory=dict,
        metadata=_names('column of several values = what separates them, genres = "|"'),
    )
    ignore: tuple[str, ...] = _other(
        (), text="columns that are not read: item.NAME, user.NAME, event.NAME"
    )
    time_unit: str = _choice("auto", *TIME_UNITS, text="unit of numeric times")
    time_format: str = _other("", text="how times are written, %d.%m.%Y %H:%M; empty = found out")
    allow_future: bool = _other(False, text="accept events of the future")
    min_coverage: float = _number(
        0.1, 0.0, 1.0, text="least part of the events that have their item (user) in its table"
    )
    features: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "parse": lambda key, value: FeatureSpec.parse(key, value).to_value(),
            "help": 'column = "kind" or {kind = "…", …}; "user.column" where both tables have it',
        },
    )


@dataclass(frozen=True)
class CleaningConfig:
    """Section ``[cleaning]``: the rules that drop events, in this order; see `cleaning`."""

    enabled: bool = _other(False, text="clean before training (`shortlist clean` always cleans)")
    missing_ids: bool = _other(True, text="drop events without a usable user_id or item_id")
    timestamps: bool = _other(True, text="drop events with an impossible time")
    earliest: str = _other("1990-01-01", text="timestamps: first possible day")
    latest: str = _other("", text="timestamps: last possible day; empty = tomorrow")
    values: bool = _other(True, text="drop events whose value is not a number or out of range")
    min_value: float = _number(-math.inf, -math.inf, text="values: smallest possible value")
    max_value: float = _number(math.inf, -math.inf, text="values: largest possible value")
    unknown_items: bool = _other(True, text="drop events of items that the item table lacks")
    duplicates: bool = _other(True, text="drop repeated events, keep the first")
    conflicts: str = _choice(
        "last",
        *("off", "first", "last", "drop"),
        text="same user, item, time and kind with other values: which to keep",
    )
    bots: bool = _other(True, text="drop users with too many events on one day")
    max_events_per_day: int = _number(1000, 1, text="bots: events of a user on one day (UTC)")
    k_core: bool = _other(False, text="drop users and items with few events, until none is left")
    min_user_events: int = _number(5, 1, text="k_core: fewest events of a user")
    min_item_events: int = _number(5, 1, text="k_core: fewest events of an item")


@dataclass(frozen=True)
class EventsConfig:
    """Section ``[events]``: how much each event counts in training; see `event_weights`."""

    weights: dict[str, float] = field(
        default_factory=dict,
        metadata={
            "low": 0.0,
            "help": "kind = weight in the loss and the baselines, 1 where not said; 0 = no target",
        },
    )
    half_life_days: float = _number(0.0, 0.0, text="age at which an event counts half; 0 = never")
    negative_kinds: tuple[str, ...] = _other((), text="kinds that mean dislike, such as skip")
    negative_below: float = _number(
        -math.inf, -math.inf, text="an event with a value below this means dislike"
    )
    negative_weight: float = _number(
        1.0, 0.0, 1000.0, text="weight of disliked items, pushed away in the loss"
    )


@dataclass(frozen=True)
class SplitConfig:
    """Section ``[split]``: which events are held out."""

    protocol: str = _choice(
        "auto",
        *("auto", "leave-one-out", "temporal", "random", "lightgcn-split"),
        text="how to hold out",
    )
    valid: float = _number(0.05, 0.0, 0.5, text="temporal, random: part for validation")
    test: float = _number(0.1, 0.0, 0.5, text="temporal, random: part for the test")
    seed: int = _number(0, 0, 2**31 - 1, text="random, lightgcn-split: which events are drawn")
    include_seen: bool = _other(
        False, text="items of the history count as targets too: for what is bought or played again"
    )


@dataclass(frozen=True)
class ChoiceConfig:
    """Section ``[choice]``: what `train` tries where nothing is set of what it trains."""

    minutes: float = _number(
        30.0, 0.0, 1e6, text="that trying encoders and training the best may take; 0 = no choice"
    )


@dataclass(frozen=True)
class ModelConfig:
    """Section ``[model]``: the two encoders."""

    encoder: str = _other(
        "pool",
        choices=(*ENCODERS, *CLOSED_FORM),
        or_class=True,
        text='user encoder, closed-form model, or your own "module:Class"',
    )
    dim: int = _number(64, 1, 4096, text="length of the embeddings")
    history_length: int = _number(50, 1, 10_000, text="a user's last items that are looked at")
    hidden: int = _number(128, 1, 8192, text="units of gru, or of the other encoders' residual MLP")
    n_blocks: int = _number(2, 1, 64, text="layers: gru, transformer, hstu")
    n_heads: int = _number(2, 1, 64, text="heads of attention, a divisor of dim: transformer, hstu")
    head_width: int = _number(
        0, 0, 4096, text="numbers of a head: transformer; 0 = dim / n_heads, as until it is pruned"
    )
    dropout: float = _number(0.2, 0.0, 0.95, text="dropout inside the user encoder")
    decay: float = _number(0.7, 0.01, 0.99, text="pool: first value of the learned decay by age")
    n_members: int = _number(
        1,
        1,
        64,
        text="encoders side by side, each of dim / n_members: an ensemble in one embedding",
    )
    item_features: bool = _other(True, text="add content embeddings to the item's id embedding")
    user_features: bool = _other(True, text="feed user features to the user encoder")


@dataclass(frozen=True)
class LinearConfig:
    """Section ``[linear]``: the closed-form models; docs/encoders.md has their formulas."""

    neighbours: int = _number(20, 1, 1_000_000, text="item-knn: neighbours kept of each item")
    shrink: float = _number(10.0, 0.0, text="item-knn: damps similarities that few users support")
    window: int = _number(10, 1, 10_000, text="cooccurrence: largest gap of a pair, in events")
    decay_gap: float = _number(
        0.8, 0.01, 1.0, text="cooccurrence: weight of a pair, lost with each event in between"
    )
    decay_age: float = _number(
        0.7, 0.01, 1.0, text="cooccurrence: weight of a history's item, lost with each later one"
    )
    power: float = _number(0.1, -10.0, 10.0, text="cooccurrence: how much popular items are damped")
    ease_l2: float = _number(400.0, 1e-6, text="ease: regularisation")
    ease_user_power: float = _number(
        0.0, -10.0, 10.0, text="ease: how much users of many items are damped in the fit"
    )
    ease_item_power: float = _number(
        0.0, -10.0, 10.0, text="ease: how much popular items are damped"
    )
    trend: float = _number(
        0.0, 0.0, 1e6, text="item-knn, cooccurrence, ease: what the item popular now gains in score"
    )
    trend_days: float = _number(15.0, 1e-3, 1e6, text="trend: days before the newest event")
    repeat: float = _number(
        0.0, 0.0, 1e6, text="the same three: what an event of the history adds to its own item"
    )
    repeat_decay: float = _number(
        0.98, 0.01, 1.0, text="repeat: weight of an event, lost with each later one"
    )
    als_l2: float = _number(0.05, 1e-6, text="ials: regularisation; model.dim factors")
    als_alpha: float = _number(10.0, 1e-6, 1e4, text="ials: confidence in an event is 1 + this")
    als_iterations: int = _number(15, 1, 10_000, text="ials: rounds of the alternation")
    refit: bool = _other(
        False, text="once measured, fit again with the validation events among those that train"
    )


@dataclass(frozen=True)
class TrainConfig:
    """Section ``[train]``: loss, optimiser, regularisation, stopping."""

    seed: int = _number(1, 0, 2**31 - 1, text="same seed, same metrics")
    epochs: int = _number(40, 1, 100_000, text="at most so many passes over the examples")
    batch_size: int = _number(512, 1, 1_000_000, text="targets per step")
    n_targets: int = _number(
        8, 1, 1000, text="pool: consecutive targets that share a row of history"
    )
    learning_rate: float = _number(2e-3, 1e-8, 10.0, text="highest learning rate")
    schedule: str = _choice("cosine", "cosine", "constant", text="learning rate over the run")
    warmup_steps: int = _number(100, 0, 1_000_000, text="steps of linear warm-up")
    optimizer: str = _choice("adam", "adam", "rmsprop", "sgd", text="optimiser of the encoders")
    tables: str = _choice(
        "auto",
        *("auto", "lazy", "dense"),
        text="adam: items' rows of a step alone (auto: on sampled items), or every row",
    )
    weight_decay: float = _number(0.0, 0.0, 1.0, text="decoupled weight decay")
    loss: str = _choice(
        "auto", *LOSSES, text="softmax over all or sampled items, or another loss over sampled ones"
    )
    full_softmax_limit: int = _number(
        20_000, 1, text="auto: largest catalogue for the full softmax"
    )
    n_negatives: int = _number(1024, 1, 1_000_000, text="shared negatives per step, unless full")
    gbce_calibration: float = _number(
        0.75, 0.0, 1.0, text="gbce: 0 = plain binary cross-entropy, 1 = no bias by sampling"
    )
    temperature: float = _number(0.07, 1e-3, 10.0, text="logit = cosine / temperature")
    item_init: str = _choice(
        "random", "random", "cooccurrence", text="first id embeddings of the items"
    )
    teacher: float = _number(
        0.0, 0.0, 0.99, text="part of the target spread as a closed-form model says"
    )
    teacher_model: str = _choice(
        "cooccurrence",
        *("cooccurrence", "ease", "both"),
        text="teacher: what follows what, EASE with linear.ease_l2, or their mean",
    )
    teacher_decay: float = _number(
        0.7, 0.01, 0.99, text="teacher: weight of an item of the history, lost with each later one"
    )
    matryoshka: tuple[int, ...] = _other(
        (),
        text="shorter embeddings that are trained too: the first numbers, for compress --dim",
        low=1,
    )
    label_smoothing: float = _number(0.0, 0.0, 0.99, text="softmax: part of the target spread")
    history_dropout: float = _number(0.1, 0.0, 0.95, text="chance that a history item is hidden")
    id_dropout: float = _number(0.05, 0.0, 0.95, text="chance that an item's id is hidden")
    ema: float = _number(0.0, 0.0, 0.99999, text="momentum of the weight average; 0 = off")
    windows_per_user: int = _number(0, 0, 1_000_000, text="targets per user and epoch; 0 = all")
    patience: int = _number(6, 1, 100_000, text="epochs without a better NDCG@10 before stopping")
    evaluate_every: int = _number(1, 1, 100_000, text="epochs between validations")
    n_threads: int = _number(0, 0, 1024, text="threads of TensorFlow and the index; 0 = all cores")


@dataclass(frozen=True)
class ScorerConfig:
    """Section ``[scorer]``: the second stage, the DNN scorer or a table of what follows what."""

    enabled: bool = _other(False, text="train a scorer after the encoders")
    kind: str = _choice(
        "dnn",
        *("dnn", "followers"),
        text="a network that learns from validation events to mix the first stage's score with "
        "counts of what follows what and linear factors, or these counts alone",
    )
    hidden: tuple[int, ...] = _other(
        (32, 16), text="units of the hidden layers; none where a linear mix is better", low=1
    )
    activation: str = _choice("relu", *ACTIVATIONS, text="activation of the hidden layers")
    output: str = _choice("linear", "sigmoid", "linear", text="activation of the score")
    loss: str = _choice(
        "softmax", "softmax", "mse", "cross_entropy", text="over a request's candidates, or each"
    )
    optimizer: str = _choice("adam", "adam", "rmsprop", "sgd", text="optimiser of the scorer")
    learning_rate: float = _number(1e-2, 1e-8, 100.0, text="learning rate")
    epochs: int = _number(10, 1, 100_000, text="passes over the users (rows: at most)")
    batch_size: int = _number(64, 1, 1_000_000, text="users (or rows) per step")
    dropout: float = _number(0.0, 0.0, 0.95, text="dropout after each hidden layer")
    n_candidates: int = _number(200, 1, 10_000, text="first-stage items that are put in order")
    history_length: int = _number(500, 1, 10_000, text="a user's last items that are looked at")
    n_factors: int = _number(64, 1, 1024, text="length of the linear item factors")
    factor_l2: float = _number(300.0, 1e-6, text="regularisation of the linear item factors")
    follower_weight: float = _number(
        0.1, 0.0, 1e6, text="followers: what the latest item's first follower gains in score"
    )
    follower_window: int = _number(3, 1, 10_000, text="followers: largest gap of a pair, in events")
    follower_gap_decay: float = _number(
        0.5, 0.01, 1.0, text="followers: weight of a pair, lost with each event in between"
    )
    follower_decay: float = _number(
        0.5, 0.01, 1.0, text="followers: weight of a history's item, lost with each later one"
    )
    validation: float = _number(0.1, 0.0, 0.9, text="rows: part held out (from 20 rows on)")
    patience: int = _number(2, 1, 100_000, text="rows: epochs without a better validation loss")
    seed: int = _number(1, 0, 2**31 - 1, text="same seed, same scorer")


@dataclass(frozen=True)
class UpdateConfig:
    """Section ``[update]``: how `shortlist update` trains on new events, and what stops it."""

    epochs: int = _number(3, 1, 100_000, text="passes over the new events and the replayed ones")
    learning_rate: float = _number(
        0.5, 1e-6, 10.0, text="highest learning rate, as a part of train.learning_rate"
    )
    replay: float = _number(
        1.0, 0.0, 1000.0, text="rows of old events an epoch, for each row with a new event"
    )
    holdout: float = _number(
        0.2, 0.001, 0.5, text="newest part of the new events, kept for the gate"
    )
    min_users: int = _number(20, 2, text="gate: fewest users that can be judged")
    tolerance: float = _number(
        0.01, 0.0, 1.0, text="gate: part of the champion's NDCG@10 that may be lost on the whole"
    )
    max_psi: float = _number(
        0.25, 0.0, text="drift: largest population stability index of a feature"
    )
    max_score_psi: float = _number(
        1.0, 0.0, text="drift: largest one of the scores, which move with every longer history"
    )
    max_unknown: float = _number(
        0.5, 0.0, 1.0, text="drift: largest part of events with an unknown item"
    )
    max_new_kinds: float = _number(
        0.5, 0.0, 1.0, text="drift: largest part of events of kinds that nothing is said of"
    )
    min_coverage: float = _number(
        0.5, 0.0, 1.0, text="drift: least coverage, as a part of that of the training's users"
    )


@dataclass(frozen=True)
class ExportConfig:
    """Section ``[export]``: what goes into the bundle and how it is checked."""

    store_users: bool = _other(True, text="keep users' features and histories in the bundle")
    opset: int = _number(18, 13, 18, text="ONNX opset of the graphs")
    storage: str = _choice(
        "float32",
        *STORAGES,
        text="how item vectors are kept; disk8, disk6, disk4: on disk; int8, int4: approximate",
    )
    shards: int = _number(
        1, 1, 1024, text="of the item index, written beside it for searches over processes; 1: none"
    )
    precision: str = _choice(
        "float32",
        *("float32", "float16"),
        text="of the user encoder's tables and products; float16: half the memory, faster on GPUs",
    )
    portable: bool = _other(
        True, text="write recommend_portable.onnx, for hosts without the plugin"
    )
    parity_users: int = _number(1000, 1, text="held-out users of the parity gate")
    parity_top_n: int = _number(20, 1, text="length of the lists the parity gate compares")


@dataclass(frozen=True)
class PrivacyConfig:
    """Section ``[privacy]``: differential privacy for whole users; see docs/privacy.md."""

    epsilon: float = _number(
        math.inf, 1e-3, text="privacy loss of a user's whole history; inf = no privacy"
    )
    delta: float = _number(
        0.0, 0.0, 0.1, text="0 = the power of ten at or below 1 / users^1.1; never over 1 / users"
    )
    unit: str = _choice("user", "user", text="what is protected: all events of a user")
    mechanism: str = _choice(
        "statistics",
        *("statistics", "sgd"),
        text="noise once, in counts of pairs and of items; or also in gradients, for many users",
    )
    contribution: int = _number(
        1000, 2, 100_000, text="a user's latest events that count, at most; then scaled to norm 1"
    )
    parent: str = _other(
        "", text="private bundle of the same users, whose privacy loss is added to this one's"
    )
    budget: float = _number(
        math.inf, 1e-3, text="largest privacy loss of this release and its parents together"
    )
    statistics: float = _number(
        0.5, 0.01, 0.99, text="sgd: part of epsilon spent on the statistics that it starts from"
    )
    rate: float = _number(0.1, 1e-6, 1.0, text="sgd: chance of each user to be in a step")
    steps: int = _number(300, 1, 1_000_000, text="sgd: noisy steps")
    learning_rate: float = _number(1e-3, 1e-8, 10.0, text="sgd: highest learning rate")


@dataclass(frozen=True)
class FederatedConfig:
    """Section ``[federated]``: how several parties train an encoder; see docs/federated.md."""

    rounds: int = _number(10, 1, 1000, text="rounds of training; each party answers once in each")
    local_epochs: int = _number(1, 1, 1000, text="passes of a party over its own events a round")
    server_optimizer: str = _choice(
        "fedavg",
        *("fedavg", "fedadam"),
        text="what the coordinator does with the parties' mean change: add it, or a step of Adam",
    )
    server_learning_rate: float = _number(
        0.0, 0.0, 10.0, text="of the coordinator; 0 = 1 with fedavg, 0.01 with fedadam"
    )
    max_share: float = _number(
        0.5, 1e-3, 1.0, text="a party counts by its users, as at most this part of all users"
    )
    clip_norm: float = _number(
        math.inf, 1e-6, text="largest norm of a party's change of all weights; inf = no limit"
    )
    touched_rows: bool = _other(
        False, text="send changes of those items alone that some party has events of"
    )


@dataclass(frozen=True)
class Config:
    """All settings of a run; every section has defaults."""

    data: DataConfig = field(default_factory=DataConfig)
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    events: EventsConfig = field(default_factory=EventsConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    choice: ChoiceConfig = field(default_factory=ChoiceConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    linear: LinearConfig = field(default_factory=LinearConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    scorer: ScorerConfig = field(default_factory=ScorerConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    federated: FederatedConfig = field(default_factory=FederatedConfig)
