"""Say whether a bundle was trained on the events that it is evaluated on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import polars as pl

from shortlist.errors import DataError
from shortlist.training.splits.leakage import EVENT_KEY
from shortlist.training.splits.parts import Split
from shortlist.training.splits.split import make_split

__all__ = ["check_held_out", "describe_training_events", "fingerprint"]


def fingerprint(events: pl.DataFrame) -> str:
    """Return a sha256 of the events in their order; equal on every machine and version."""
    digest = hashlib.sha256(str(events.height).encode())
    for name in EVENT_KEY:
        column = events[name]
        if column.dtype == pl.String:
            digest.update(column.str.len_bytes().to_numpy().astype("<u4").tobytes())
            digest.update("".join(column).encode())
        else:
            digest.update(column.to_numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def describe_training_events(split: Split) -> dict[str, object]:
    """Return what the manifest keeps of a split, so that an evaluation can know its events.

    Returns
    -------
    dict
        ``train_sha256`` and ``known_sha256`` (train and valid together), ``known_until``: the last
        timestamp in them, None if the events have no times.
    """
    known = split.known_events("valid")
    return {
        "train_sha256": fingerprint(split.train),
        "known_sha256": fingerprint(known),
        "known_until": known["timestamp"].max() if split.dataset.has_times else None,
    }


def check_held_out(training: Mapping[str, Any], split: Split, on: str) -> str | None:
    """Check that a bundle never saw the targets of an evaluation.

    Parameters
    ----------
    training : mapping
        The manifest's ``training``.
    split : Split
        What the bundle is to be evaluated on.
    on : {"test", "valid"}
        On "test" the bundle's validation events count as seen too: they chose the best epoch.

    Returns
    -------
    str or None
        Why it cannot be known, as a sentence; None if every target is certainly new.

    Raises
    ------
    DataError
        Some targets are among the events the bundle was trained on.
    """
    data = training.get("data", {})
    trained = _split_of_training(training, split)
    if data.get("is_private") or data.get("is_federated"):
        kind = "private" if data.get("is_private") else "federated"
        return (
            f"the bundle does not say which events it was trained on, as it is {kind}: whether "
            f"these {on} events were among them cannot be known"
        )
    if trained is None or not _same_events(trained, data):
        until, first = data.get("known_until"), split.part(on)["timestamp"].min()
        is_later = isinstance(until, int) and isinstance(first, int) and first > until
        if split.dataset.has_times and is_later:
            return None
        return (
            f"the bundle was trained on other events ({data.get('name')}, "
            f"{data.get('n_train')} train events) and may have seen these {on} events: "
            "its metrics may be too good"
        )
    seen = trained.train if on == "valid" else trained.known_events("valid")
    targets = split.part(on)
    if targets.equals(trained.part(on)):
        return None
    n_seen = targets.join(seen, on=EVENT_KEY, how="semi").height
    if n_seen:
        raise DataError(
            f"protocol: got {split.protocol!r}, by which {n_seen:,} of the {targets.height:,} {on} "
            f"events are among those the bundle was trained on, expected {trained.protocol!r} with "
            "the shares of its training. Fix: leave --protocol out, or train with that protocol "
            f"(--set split.protocol={split.protocol})"
        )
    return None


def _split_of_training(training: Mapping[str, Any], split: Split) -> Split | None:
    """Cut the dataset as the bundle's training did; None if it cannot be cut like that."""
    wanted = training.get("config", {}).get("split", {})
    shares = {name: wanted[name] for name in ("valid", "test", "seed") if name in wanted}
    try:
        protocol = training.get("data", {}).get("protocol", "")
        return make_split(split.dataset, protocol, **shares, weighting=split.weighting)
    except DataError:
        return None


def _same_events(trained: Split, data: Mapping[str, Any]) -> bool:
    events = describe_training_events(trained)
    return all(events[name] == data.get(name) for name in ("train_sha256", "known_sha256"))
