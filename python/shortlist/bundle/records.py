"""The objects of which a manifest is made, each checked as it is read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shortlist.bundle.fields import LARGEST, MOST_PLACES, Fields, is_plain_name

# Kinds of features, and the value types their columns may have in the graphs.
FEATURE_DTYPES = {
    "categorical": ("int64", "string"),
    "multi_categorical": ("int64", "string"),
    "numeric": ("float32",),
    "text": ("string",),
    "timestamp": ("int64",),
    "vector": ("float32",),
}
MAX_WIDTH = 65_536
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileRecord:
    """One file of the bundle: its bytes, and their hash."""

    size: int
    sha256: str

    @classmethod
    def read(cls, fields: Fields, name: str) -> FileRecord:
        """Read the entry of the file `name`."""
        size = fields.number("size", 0, of=f" of {name}")
        sha256 = fields.take("sha256", str, "64 hex digits")
        if not _SHA256.fullmatch(sha256):
            raise fields.problem(f"sha256 of {name} to be 64 hex digits", repr(sha256))
        return cls(size, sha256)


@dataclass(frozen=True)
class FeatureRecord:
    """One declared feature."""

    name: str
    side: str  # "user" or "item"
    kind: str
    dtype: str  # of its values in the graph
    mean: float  # this and std: of a numeric one, in training
    std: float
    n_vocabulary: int  # values the encoder knows
    width: int  # of a vector, else 0
    unit: str  # of times given as numbers
    separator: str  # splits a text into tags

    @classmethod
    def read(cls, fields: Fields) -> FeatureRecord:
        """Read an entry of `features`."""
        name = fields.take("name", str, "a column name")
        side = fields.take("side", str, "user or item")
        kind = fields.take("kind", str, "a feature kind")
        dtype = fields.take("dtype", str, "a value type")
        if kind not in FEATURE_DTYPES:
            raise fields.problem(f"a known kind of feature for {name!r}", repr(kind))
        if dtype not in FEATURE_DTYPES[kind]:
            raise fields.problem(f"a value type that fits {kind} feature {name!r}", repr(dtype))
        of = f" of {name!r}"
        mean, std = fields.real("mean", 0.0, of=of), fields.real("std", 1.0, of=of)
        n_vocabulary = width = 0
        if "n_vocabulary" in fields.record:
            n_vocabulary = fields.number("n_vocabulary", 0, of=of)
        if kind == "vector":
            width = fields.number("width", 1, MAX_WIDTH, of=of)
        unit, separator = fields.record.get("unit", "s"), fields.record.get("separator", "")
        if unit not in ("s", "ms", "us"):
            raise fields.problem(f"unit of {name!r} to be s, ms or us", repr(unit))
        if not isinstance(separator, str):
            raise fields.problem(f"separator of {name!r} to be text", repr(separator))
        values, value_type = fields.record.get("vocabulary", []), str if dtype == "string" else int
        if not isinstance(values, list) or any(type(value) is not value_type for value in values):
            raise fields.problem(f"vocabulary of {name!r} to be a list of {dtype}", "another thing")
        if dtype == "int64" and any(not -LARGEST - 1 <= value <= LARGEST for value in values):
            raise fields.problem(f"vocabulary of {name!r} to be a list of {dtype}", "larger ones")
        return cls(name, side, kind, dtype, mean, std, n_vocabulary, width, unit, separator)


@dataclass(frozen=True)
class Ancestor:
    """One version of a bundle, as a lineage tells of it."""

    version: str
    created: str
    parent: str | None  # the version it was trained from
    run: str | None  # name of its run folder
    _raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, fields: Fields) -> Ancestor:
        """Read a lineage's own fields, or an entry of its `ancestors`."""
        version = fields.take("version", str, "a version")
        if not is_plain_name(version):
            raise fields.problem("a version of letters, digits, - and .", f"{version!r:.80}")
        created = fields.take("created", str, "a time")
        parent, run = fields.record.get("parent"), fields.record.get("run")
        if parent is not None and not isinstance(parent, str):
            raise fields.problem("parent to be a version or null", f"{parent!r:.80}")
        if run is not None and not (isinstance(run, str) and Path(run).name == run):
            raise fields.problem("run to be the name of a folder", f"{run!r:.80}")
        if "data" in fields.record:
            _check_events(fields.of(fields.record["data"], "data of a version to be an object"))
        return cls(version, created, parent, run, fields.record)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object it was read from, with all else that it tells."""
        return dict(self._raw)


def _check_events(fields: Fields) -> None:
    """Check what a version tells of its events: how many, their hash, the first and last time."""
    fields.number("n_events", 0)
    fields.take("sha256", str, "hex digits")
    for key in ("first", "until"):
        if fields.record.get(key) is not None:
            fields.number(key, -LARGEST - 1)


@dataclass(frozen=True)
class Lineage:
    """Where a bundle comes from: itself, and the versions before it, the newest first."""

    own: Ancestor
    ancestors: tuple[Ancestor, ...] = ()

    @classmethod
    def read(cls, fields: Fields) -> Lineage:
        """Read the object `lineage`."""
        entries = fields.take("ancestors", list, "a list")
        own = {name: value for name, value in fields.record.items() if name != "ancestors"}
        records = (fields.of(entry, "every ancestor to be an object") for entry in (own, *entries))
        first, *others = map(Ancestor.read, records)
        return cls(first, tuple(others))


@dataclass(frozen=True)
class NoisySteps:
    """Steps of a private gradient descent: each sees every user with the same chance."""

    sigma: float
    rate: float
    n_steps: int

    @classmethod
    def read(cls, fields: Fields) -> NoisySteps:
        """Read the object `steps` of the ledger."""
        of = " of the privacy ledger's steps"
        return cls(
            sigma=fields.real("sigma", 0.0, 0.0, of=of),
            rate=fields.real("rate", 0.0, 0.0, of=of),
            n_steps=fields.number("n_steps", 1, of=of),
        )

    def __str__(self) -> str:
        """Say it as a part of the promise."""
        return (
            f"of sigma {self.sigma:.4g} in each of {self.n_steps:,} steps, which see {self.rate:g} "
            "of the users by chance"
        )


@dataclass(frozen=True)
class PrivacyRecord:
    """What a private bundle promises, and on what ground."""

    epsilon: float
    delta: float
    sigma: float
    mechanism: str
    generator: str
    accountant: str
    n_releases: int
    steps: NoisySteps | None

    @classmethod
    def read(cls, fields: Fields) -> PrivacyRecord:
        """Read the object `privacy`."""
        of = " of the privacy ledger"
        return cls(
            epsilon=fields.real("epsilon", 0.0, 0.0, of=of),
            delta=fields.real("delta", 0.0, 0.0, of=of),
            sigma=fields.real("sigma", 0.0, 0.0, of=of),
            mechanism=fields.take("mechanism", str, "text"),
            generator=fields.take("generator", str, "text"),
            accountant=fields.take("accountant", str, "text"),
            n_releases=len(fields.take("releases", list, "a list")),
            steps=fields.section("steps", NoisySteps.read),
        )

    @property
    def sentence(self) -> str:
        """What is promised, in words for those who have to answer for it."""
        odds, factor = f"e^{self.epsilon:g}", math.exp(min(self.epsilon, 50.0))
        if self.epsilon < 50:
            odds += f" = {factor:.3g}" if factor < 100 else f" = {factor:,.0f}"
        bundles, noise = "this bundle", f"Gaussian noise of sigma {self.sigma:.4g}, added once"
        if self.n_releases > 1:
            bundles += f" and the {self.n_releases - 1} before it"
            noise = f"Gaussian noise, here of sigma {self.sigma:.4g}, in {self.n_releases} releases"
        if self.steps is not None:
            noise += f", and {self.steps}"
        is_unsafe = "NOT PRIVATE" in self.generator
        return (
            f"{'NOT PRIVATE, its noise is known. ' if is_unsafe else ''}"
            "Whether or not all events of any one user were among the data, the chance of anything "
            f"that can be read from {bundles} differs by a factor of at most {odds}, but for a "
            f"probability of {self.delta:g} (user-level differential privacy, epsilon = "
            f"{self.epsilon:g}, delta = {self.delta:g}; {noise}; accounted with "
            f"{self.accountant}; the item table is taken as public)."
        )


@dataclass(frozen=True)
class RerankerRecord:
    """The second stage: how many candidates it gets, and how much of a history it reads."""

    n_candidates: int
    history_length: int
    measured: Mapping[str, Any]  # all else: its kind, whether and how much it helped on validation

    @classmethod
    def read(cls, fields: Fields) -> RerankerRecord:
        """Read the object `second_stage`."""
        of = " of the second stage"
        n_candidates = fields.number("n_candidates", 1, MOST_PLACES, of=of)
        length = fields.number("history_length", 1, MOST_PLACES, of=of)
        own = {"n_candidates", "history_length"}
        rest = {name: value for name, value in fields.record.items() if name not in own}
        return cls(n_candidates, length, rest)


@dataclass(frozen=True)
class CompressionRecord:
    """What `shortlist compress` did to a bundle, and what it measured before and after."""

    source: str  # version of the bundle that was made smaller
    steps: tuple[str, ...]
    tolerance: float  # part of NDCG@10 that was allowed to be lost
    loss: float  # part of it that is
    measured: Mapping[str, Any]  # all else

    @classmethod
    def read(cls, fields: Fields) -> CompressionRecord:
        """Read the object `compression`."""
        of = " of the compression"
        steps = fields.take("steps", list, "a list of steps")
        if not all(isinstance(step, str) for step in steps):
            raise fields.problem(f"steps{of} to be texts", f"{steps!r:.80}")
        own = {"source", "steps", "tolerance", "loss"}
        return cls(
            source=fields.take("source", str, "a version"),
            steps=tuple(steps),
            tolerance=fields.real("tolerance", 0.0, 0.0, of=of),
            loss=fields.real("loss", 0.0, of=of),
            measured={name: value for name, value in fields.record.items() if name not in own},
        )
