"""Which settings a federation takes, and what it puts in place of the others."""

from __future__ import annotations

from collections.abc import Collection

from shortlist.errors import DataError
from shortlist.training.config.replacing import first_set, with_wanted
from shortlist.training.config.sections import ENCODERS, Config, DataConfig
from shortlist.training.config.settings import to_toml
from shortlist.training.privacy.settings import check_unused, is_private, private_config

MODELS = ("popularity", "item-knn", "cooccurrence", "ease")  # sums over users, in one round


def has_rounds(config: Config) -> bool:
    """Say whether a plan trains an encoder in rounds.

    With ``[privacy]`` none does: the noisy sums of one round are all that is known of the users,
    and the coordinator trains on histories drawn from them.
    """
    return config.model.encoder in ENCODERS and not is_private(config)


def check_alone(config: Config) -> None:
    """Refuse settings of ``[federated]`` where no parties train in rounds."""
    found = first_set(config.federated)
    if found is not None:
        raise DataError(
            f"federated.{found[0]}: got {found[1]!r} for a training without rounds of several "
            "parties, expected none. Fix: leave it out; `shortlist federate plan` with "
            f"model.encoder one of {', '.join(ENCODERS)}, and no [privacy], has rounds"
        )


def federated_config(config: Config, given: Collection[str]) -> tuple[Config, list[str]]:
    """Check the settings of a plan, and replace those that no plan can have.

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
        A setting cannot be federated; the message names it and says why.
    """
    notes: list[str] = []
    _refuse(config)
    if is_private(config):
        config, notes = private_config(config, given)
        if config.privacy.mechanism != "statistics":
            why = "noisy steps look at single users"
            raise _refused("privacy.mechanism", config.privacy.mechanism, "statistics", why)
        if config.privacy.delta == 0.0:
            raise DataError(
                "privacy.delta: got 0 in a plan of several parties, expected a number: nobody "
                "knows how many users there are. Fix: a power of ten below 1 / users of all "
                "parties, such as 1e-6"
            )
    else:
        check_unused(config)
    wanted: dict[str, tuple[object, str]] = {
        "export.store_users": (False, "users and their histories stay in their houses"),
        "choice.minutes": (0.0, "a plan names one model"),
        "split.protocol": ("leave-one-out", "other cuts depend on all users at once"),
    }
    is_chosen = "model.encoder" in given and config.model.encoder in ENCODERS
    if config.model.encoder not in MODELS and not is_private(config) and not is_chosen:
        wanted["model.encoder"] = ("cooccurrence", "it is made of sums over users")
    config, more = with_wanted(config, wanted, given, wanted, "federated", _refused)
    if not has_rounds(config):
        check_alone(config)
        return config, notes + more
    trained: dict[str, tuple[object, str]] = {
        "train.item_init": ("cooccurrence", "counts of all parties are a good start"),
        "train.teacher": (0.0, "what follows what is known to no party"),
        "train.ema": (0.0, "the mean of the parties is an average already"),
        "data.features": ({}, "the kinds of item columns are those of their types"),
    }
    closed = trained.keys() - {"train.item_init"}
    config, last = with_wanted(config, trained, given, closed, "federated", _refused)
    return config, notes + more + last


def shared_settings(config: Config) -> str:
    """Write what a plan says of the settings: all but ``[data]``, which is each party's own."""
    return to_toml(Config(**{**vars(config), "data": DataConfig()}))


def _refuse(config: Config) -> None:
    """Refuse what depends on the events of many users at once, or on held-out events."""
    rules = [
        (
            "cleaning.k_core",
            config.cleaning.enabled and config.cleaning.k_core,
            False,
            "whether an item stays depends on the counts of all parties",
        ),
        (
            "events.half_life_days",
            config.events.half_life_days,
            0.0,
            "ages count from the newest event, which is one party's",
        ),
        ("linear.trend", config.linear.trend, 0.0, "it counts from the newest event of all"),
        ("linear.refit", config.linear.refit, False, "a round has one part of the events"),
        ("scorer.enabled", config.scorer.enabled, False, "it learns from single events"),
        ("data.users", config.data.users, "", "the user table stays in its house"),
    ]
    for name, present, allowed, why in rules:
        if present:
            raise _refused(name, present, allowed, why)


def _refused(name: str, got: object, expected: object, why: str) -> DataError:
    expected = (*MODELS, *ENCODERS) if name == "model.encoder" else expected
    return DataError(
        f"{name}: got {got!r} in a plan of several parties, expected {expected!r}: {why}. "
        f"Fix: leave it out, or set it where a preset does (--set {name}=...)"
    )
