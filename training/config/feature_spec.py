"""What a user declares about a column: its kind and parameters, from TOML or from Python.

Fitted values (vocabularies, means, quantiles) are not here: `feature.Feature` holds them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shortlist.errors import DataError
from shortlist.training.config.values import unknown

TIME_PARTS = ("age", "hour", "weekday")
# Parameters each declared kind takes, besides "kind" itself.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "categorical": ("min_count", "max_values", "missing"),
    "multi_categorical": ("min_count", "max_values", "separator"),
    "numeric": ("log1p", "clip", "standardise", "buckets", "missing"),
    "text": (
        "buckets",
        "word_ngrams",
        "char_ngrams",
        "max_words",
        "max_chars",
        "lowercase",
    ),
    "vector": ("unit_length", "missing"),
    "timestamp": ("parts", "buckets", "unit", "missing"),
    "history": ("event_kinds", "ages"),
    "ignore": (),
}
KINDS = tuple(PARAMETERS)


def _whole(default: int, low: int, high: int) -> Any:
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def _choice(default: str, *choices: str) -> Any:
    return dataclasses.field(default=default, metadata={"choices": choices})


@dataclass(frozen=True)
class FeatureSpec:
    """One column's declaration; each kind takes the parameters `PARAMETERS` lists.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    min_count, max_values : int
        Categories and tags: values rarer than ``min_count`` are unknown; of the rest the
        ``max_values`` commonest are kept (0 = all).
    separator : str
        Tags: splits one text into tags; "" where the column holds lists.
    missing : str
        What null, NaN and "" add to the encoder: ``"neutral"`` nothing (a number then counts as
        the mean), ``"own"`` a learned vector of their own.
    log1p : bool
        Numbers: sign(x) · log(1 + |x|), after clipping.
    clip : tuple of two float
        Numbers: quantiles of the train part that values are cut to; (0, 1) does not clip.
    standardise : bool
        Numbers: subtract the mean and divide by the standard deviation.
    buckets : int
        Numbers: that many equally filled buckets with a learned vector each, 0 = none. Times: the
        same for the age, and every hour and weekday its own vector (0 = smooth values). Text:
        rows of the table that words are hashed into; as many again for character n-grams.
    word_ngrams : int
        Text: 1 = words, 2 = words and pairs of neighbours, 0 = no words.
    char_ngrams : int
        Text: length of character n-grams, 0 = none.
    max_words, max_chars : int
        Text: so much of it is read.
    lowercase : bool
        Text: treat ASCII capitals as small letters.
    unit_length : bool
        Vectors: scale to length 1.
    parts : tuple of str
        Times: any of ``TIME_PARTS``. The age is counted back from the newest train event.
    unit : str
        Times given as numbers: ``"s"``, ``"ms"`` or ``"us"`` since 1970.
    event_kinds, ages : bool
        History: requests also carry ``history_kinds`` and ``history_ages``.
    """

    kind: str
    min_count: int = _whole(1, 1, 2**31)
    max_values: int = _whole(0, 0, 2**31)
    separator: str = ""
    missing: str = _choice("neutral", "neutral", "own")
    log1p: bool = False
    clip: tuple[float, ...] = (0.0, 1.0)
    standardise: bool = True
    buckets: int = _whole(0, 0, 2**24)
    word_ngrams: int = _whole(2, 0, 2)
    char_ngrams: int = _whole(3, 0, 8)
    max_words: int = _whole(24, 1, 10_000)
    max_chars: int = _whole(64, 1, 10_000)
    lowercase: bool = True
    unit_length: bool = True
    parts: tuple[str, ...] = TIME_PARTS
    unit: str = _choice("s", "s", "ms", "us")
    event_kinds: bool = True
    ages: bool = True

    def __post_init__(self) -> None:
        """Check the declaration, so that one made in Python is as safe as one from TOML."""
        if self.kind not in PARAMETERS:
            raise DataError(unknown("kind", self.kind, KINDS))
        for item in dataclasses.fields(self)[1:]:
            value = getattr(self, item.name)
            if item.name not in PARAMETERS[self.kind] and value != item.default:
                raise DataError(unknown(f"{self.kind}", item.name, PARAMETERS[self.kind]))
            object.__setattr__(self, item.name, _check(item, value))
        if self.kind == "text":
            if self.buckets == 0:
                object.__setattr__(self, "buckets", 16_384)
            if not self.word_ngrams and not self.char_ngrams:
                raise DataError("word_ngrams: got 0 and char_ngrams 0, expected at least one > 0")
        if self.buckets == 1:
            raise DataError("buckets: got 1, expected 0 or at least 2")
        if self.kind == "history" and not self.event_kinds and not self.ages:
            raise DataError("event_kinds: got false and ages false, expected one of them true")

    @classmethod
    def parse(cls, key: str, value: object) -> FeatureSpec:
        """Read ``"kind"`` or ``{kind = "…", …}``; DataError names the key, and what is allowed."""
        if isinstance(value, FeatureSpec):
            return value
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
            raise DataError(
                f'{key}: got {value!r}, expected a kind or a table such as {{kind = "numeric"}}'
            )
        kind = value["kind"]
        if kind not in PARAMETERS:
            raise DataError(unknown(key, kind, KINDS))
        for name in value:
            if name != "kind" and name not in PARAMETERS[kind]:
                raise DataError(unknown(f"{key}: parameter of {kind}", name, PARAMETERS[kind]))
        try:
            return cls(**value)
        except DataError as error:
            raise DataError(f"{key}.{error}") from error

    def to_value(self) -> str | dict[str, object]:
        """Return what `parse` reads: the kind alone, or a dict with what is not the default."""
        changed: dict[str, object] = {
            item.name: list(value) if isinstance(value, tuple) else value
            for item in dataclasses.fields(self)[1:]
            if (value := getattr(self, item.name)) != item.default
        }
        return {"kind": self.kind, **changed} if changed else self.kind


def _check(item: dataclasses.Field[Any], value: object) -> object:
    """Check one parameter against the type of its default and its rules."""
    name, default, rules = item.name, item.default, item.metadata
    if name == "clip":
        return _check_clip(value)
    if name == "parts":
        return _check_parts(value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise DataError(f"{name}: got {value!r}, expected true or false")
    elif isinstance(default, int):
        if type(value) is not int or not rules["low"] <= value <= rules["high"]:
            raise DataError(
                f"{name}: got {value!r}, expected a whole number from {rules['low']} to "
                f"{rules['high']}"
            )
    elif not isinstance(value, str):
        raise DataError(f"{name}: got {value!r}, expected text")
    elif "choices" in rules and value not in rules["choices"]:
        raise DataError(unknown(name, value, rules["choices"]))
    return value


def _check_clip(value: object) -> tuple[float, float]:
    numbers = list(value) if isinstance(value, list | tuple) else []
    are_numbers = all(isinstance(v, int | float) and type(v) is not bool for v in numbers)
    if len(numbers) != 2 or not are_numbers or not 0 <= numbers[0] < numbers[1] <= 1:
        raise DataError(
            f"clip: got {value!r}, expected two quantiles from 0 to 1 such as [0.01, 0.99]"
        )
    return float(numbers[0]), float(numbers[1])


def _check_parts(value: object) -> tuple[str, ...]:
    parts = list(value) if isinstance(value, list | tuple) else []
    if not parts or len(set(parts)) != len(parts) or not set(parts) <= set(TIME_PARTS):
        raise DataError(f"parts: got {value!r}, expected some of {list(TIME_PARTS)}")
    return tuple(part for part in TIME_PARTS if part in parts)
