"""Which settings a private training takes, and what it puts in place of the others."""

from __future__ import annotations

import math
from collections.abc import Collection

from shortlist.errors import DataError
from shortlist.training.config.replacing import first_set, with_wanted
from shortlist.training.config.sections import CLOSED_FORM, Config, PrivacyConfig

DIRECT = ("popularity", "cooccurrence")  # made of the released numbers themselves
NEVER_OPEN = ("export.store_users", "choice.minutes", "split.protocol")
OF_STEPS = ("statistics", "rate", "steps", "learning_rate")  # settings of mechanism "sgd"
DECAY_AGE = 0.6  # chosen on the validation part of MovieLens-1M


def is_private(config: Config) -> bool:
    """Say whether the settings ask for differential privacy."""
    return math.isfinite(config.privacy.epsilon)


def private_config(config: Config, given: Collection[str]) -> tuple[Config, list[str]]:
    """Check the settings of a private training, and replace those that cannot be private.

    Parameters
    ----------
    config : Config
    given : collection of str
        Names of the settings that were set, if to their defaults: these are not replaced.

    Returns
    -------
    config : Config
    notes : list of str
        What was replaced and why, as sentences.

    Raises
    ------
    DataError
        A setting cannot be private; the message names it and says why.
    """
    _refuse(config)
    descends = config.privacy.mechanism == "sgd"
    wanted: dict[str, tuple[object, str]] = {
        "export.store_users": (False, "a bundle with histories would publish them"),
        "choice.minutes": (0.0, "a choice by validation events would publish something of them"),
        "split.protocol": ("leave-one-out", "other cuts depend on all users at once"),
        "model.encoder": (
            ("pool", "noisy steps need an encoder that is trained")
            if descends
            else ("cooccurrence", "it is made of the released numbers themselves")
        ),
        "linear.decay_age": (DECAY_AGE, "it suits weights with noise"),
    }
    return with_wanted(config, wanted, given, NEVER_OPEN, "private", _refused)


def check_unused(config: Config) -> None:
    """Refuse a training without ε that sets what belongs to one."""
    found = first_set(config.privacy)
    if found is not None:
        raise DataError(
            f"privacy.{found[0]}: got {found[1]!r} without privacy.epsilon, expected both or none: "
            "this training would add no noise. Fix: set privacy.epsilon, or leave it out"
        )


def _refuse(config: Config) -> None:
    """Refuse what depends on the events of many users at once, or on held-out events."""
    _check_mechanism(config)
    rules = [
        (
            "cleaning.k_core",
            config.cleaning.enabled and config.cleaning.k_core,
            False,
            "whether an item stays depends on exact counts of all users",
        ),
        ("events.weights", config.events.weights, {}, "contributions are not weighted by kind"),
        (
            "events.half_life_days",
            config.events.half_life_days,
            0.0,
            "ages count from the newest event, which is one user's",
        ),
        ("linear.trend", config.linear.trend, 0.0, "it counts the newest events exactly"),
        ("linear.refit", config.linear.refit, False, "the release has one part of the events"),
        ("linear.repeat", config.linear.repeat, 0.0, "it is not built for noisy counts"),
        ("scorer.enabled", config.scorer.enabled, False, "it learns from validation events"),
        ("data.users", config.data.users, "", "the user table says who is among the users"),
    ]
    for name, present, allowed, why in rules:
        if present:
            raise _refused(name, present, allowed, why)


def _check_mechanism(config: Config) -> None:
    """Refuse an encoder that the mechanism cannot train, and settings of the other mechanism."""
    encoder, default = config.model.encoder, PrivacyConfig()
    if config.privacy.mechanism == "sgd":
        if encoder in CLOSED_FORM:
            raise _refused(
                "model.encoder", encoder, "pool", "privacy.mechanism 'sgd' makes noisy steps"
            )
        return
    for name in OF_STEPS:
        if (value := getattr(config.privacy, name)) != getattr(default, name):
            raise DataError(
                f"privacy.{name}: got {value!r} with privacy.mechanism 'statistics', which makes "
                "no steps, expected none. Fix: set privacy.mechanism = 'sgd', or leave it out"
            )


def _refused(name: str, got: object, expected: object, why: str) -> DataError:
    return DataError(
        f"{name}: got {got!r} with privacy.epsilon, expected {expected!r}: {why}. "
        f"Fix: leave it out, or train without [privacy]"
    )
