"""Features: which columns feed the encoders, and how raw values become codes and numbers.

Everything is fitted on the train part only. Codes are 0 for missing or unknown and 1.. in
vocabulary order; the code of an item is its catalogue row + 1. `docs/features.md` says what each
kind does. These numpy encoders are the reference: the exported graph does the same on raw values
and is tested against them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from shortlist.errors import DataError
from shortlist.training.config.feature_spec import FeatureSpec
from shortlist.training.config.sections import CLOSED_FORM
from shortlist.training.data.joins import MIN_COVERAGE, check_joins
from shortlist.training.data.tables import log
from shortlist.training.features.feature import DAY, Feature, infer_kind, pad_lists
from shortlist.training.features.fitting import fit_events, fit_feature
from shortlist.training.features.inferring import changes_by_the_hour, inferred

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from shortlist.training.data.events import Dataset
    from shortlist.training.splits.parts import Split

__all__ = [
    "Feature",
    "FeatureSet",
    "FeatureSpec",
    "align_items",
    "align_users",
    "infer_kind",
    "pad_lists",
]


@dataclass(frozen=True)
class FeatureSet:
    """All features of a run: the item vocabulary, the history, and the declared columns.

    ``event_features`` are those of a history's events: ``history_kinds``, ``history_ages``, both
    or none.
    """

    item_id: Feature
    features: list[Feature]
    history_length: int = 50
    event_features: list[Feature] = field(default_factory=list)

    @classmethod
    def fit(cls, dataset: Dataset, split: Split, config: Any = None) -> FeatureSet:
        """Choose and fit the features on the train part.

        Parameters
        ----------
        dataset : Dataset
            Its item and user tables hold the columns.
        split : Split
            Only users and items with events in ``split.train`` are looked at; the item
            vocabulary is ``split.catalogue``.
        config : Config, optional
            ``[data.features]`` overrides the kinds inferred from the dtypes, ``[model]`` says
            whether features are used at all (closed-form models use none) and how long a history
            is.
        """
        specs = config.data.features if config is not None else {}
        declared = {
            name: FeatureSpec.parse(f"data.features.{name}", value) for name, value in specs.items()
        }
        catalogue = np.asarray(split.catalogue)
        is_int = np.issubdtype(catalogue.dtype, np.integer)
        id_dtype = "int64" if is_int else "string"
        item_id = Feature("item_id", "item", "id", id_dtype, catalogue.tolist())
        features: list[Feature] = []
        tables = {"user": dataset.users, "item": dataset.items}
        newest = None
        if dataset.has_times and split.train.height:
            newest = int(split.train["timestamp"].max())  # type: ignore[arg-type]
        history = declared.pop("history", None)
        if history is not None and history.kind != "history":
            raise DataError(
                f"data.features.history: got kind {history.kind!r}, expected 'history'; a column "
                "of a table may not be called history: rename it"
            )
        _check_declared(declared, tables)
        wanted = {
            side: table
            for side, table in tables.items()
            if table is not None and (config is None or _wanted(config, side))
        }
        used = replace(dataset, items=wanted.get("item"), users=wanted.get("user"))
        check_joins(used, config.data.min_coverage if config is not None else MIN_COVERAGE)
        for side, table in wanted.items():
            key = f"{side}_id"
            known = table.filter(pl.col(key).is_in(split.train[key].unique().implode()))
            found: dict[str, str] = {}
            for name in table.columns:
                if name == key:
                    continue
                spec = declared.get(f"{side}.{name}", declared.get(name))
                if spec is None:
                    is_text = f"{side}s" in dataset.text_tables
                    kind, why = inferred(table, known, name, side, is_file_text=is_text)
                    spec = FeatureSpec(kind)
                    found[name] = f"{kind} ({why})" if why else kind
                else:
                    found[name] = f"{spec.kind} (declared)"
                if spec.kind != "ignore":
                    features.append(fit_feature(known[name], side, spec, reference=newest))
            said = ", ".join(f"{name} {kind}" for name, kind in found.items())
            log.info("%s columns: %s", side, said or "none")
            for name, kind in found.items():
                if changes_by_the_hour(name) and kind in ("categorical", "numeric"):
                    log.info("%s", _changing(side, name))
        length = config.model.history_length if config is not None else 50
        if history is None or (config is not None and config.model.encoder in CLOSED_FORM):
            return cls(item_id, features, length)
        events = fit_events(split.train, history, dataset.has_times)
        return cls(item_id, features, length, events)

    @property
    def history(self) -> Feature:
        """The history: a list of item ids with the item vocabulary."""
        return Feature("history", "user", "history", self.item_id.id_dtype, self.item_id.vocabulary)

    @property
    def history_inputs(self) -> list[Feature]:
        """The history and the features of its events, each an input of the user encoder."""
        return [self.history, *self.event_features]

    @property
    def n_items(self) -> int:
        """Number of items in the catalogue."""
        return len(self.item_id.vocabulary)

    def side(self, side: str) -> list[Feature]:
        """Give the declared features of ``"user"`` or ``"item"`` (no item id, no history)."""
        return [feature for feature in self.features if feature.side == side]

    def encode_items(self, table: pl.DataFrame) -> dict[str, NDArray[Any]]:
        """Encode the rows of an item table, in their order: ``item_id`` codes and features.

        A column that the table lacks is missing in every row.
        """
        encoded = {"item_id": self.item_id.codes(_column(table, "item_id"))}
        return encoded | self._encode(table, "item")

    def encode_users(self, table: pl.DataFrame) -> dict[str, NDArray[Any]]:
        """Encode the rows of a user table, in their order; ``user_id`` itself is no feature."""
        return self._encode(table, "user")

    def encode_history(
        self, histories: Sequence[Any], max_len: int | None = None
    ) -> NDArray[np.int64]:
        """Encode item-id histories, oldest first.

        Unknown items are dropped; of the rest the last ``max_len`` (default: the set's
        ``history_length``) stay, aligned to the right.

        Returns
        -------
        ndarray of shape (len(histories), max_len), int64
            Item codes, 0 = padding.
        """
        max_len = self.history_length if max_len is None else max_len
        lengths = np.fromiter((len(h) for h in histories), np.int64, len(histories))
        if lengths.sum() == 0:
            return np.zeros((len(histories), max_len), np.int64)
        flat = np.concatenate([np.asarray(h) for h in histories if len(h)])
        codes = self.item_id.codes(_id_series(flat))
        owner = np.repeat(np.arange(len(histories)), lengths)[codes > 0]
        known = np.bincount(owner, minlength=len(histories))
        return pad_lists(codes[codes > 0], known, max_len, align="right")

    def usual_events(self, history: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Make up the event features of encoded histories of which only the items are known."""
        made: dict[str, NDArray[Any]] = {}
        for feature in self.event_features:
            if feature.name == "history_kinds":
                made[feature.name] = np.zeros(history.shape, np.int64)
            else:
                known = history > 0
                later = known.sum(axis=1, keepdims=True) - np.cumsum(known, axis=1)
                gap = np.float32(feature.reference) / np.float32(DAY)
                made[feature.name] = (later * known).astype(np.float32) * gap
        return made

    def _encode(self, table: pl.DataFrame, side: str) -> dict[str, NDArray[Any]]:
        return {f.name: f.encode(_column(table, f.name)) for f in self.side(side)}

    def to_json(self) -> str:
        """Write everything that was fitted; `from_json` gives the same set back."""
        tree = {
            "history_length": self.history_length,
            "item_id": self.item_id.to_dict(),
            "features": [feature.to_dict() for feature in self.features],
            "event_features": [feature.to_dict() for feature in self.event_features],
        }
        return json.dumps(tree, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> FeatureSet:
        """Read what `to_json` wrote."""
        try:
            tree = json.loads(text)
            features = [Feature.from_dict(feature) for feature in tree["features"]]
            events = [Feature.from_dict(feature) for feature in tree["event_features"]]
            return cls(Feature.from_dict(tree["item_id"]), features, tree["history_length"], events)
        except (ValueError, KeyError, TypeError, DataError) as error:
            raise DataError(f"features: not a feature set written by shortlist: {error}") from error


def align_items(dataset: Dataset, catalogue: NDArray[Any]) -> pl.DataFrame:
    """Return the item table in catalogue order; items it lacks have nulls."""
    return _aligned(dataset.items, "item_id", catalogue)


def align_users(dataset: Dataset, user_ids: NDArray[Any]) -> pl.DataFrame:
    """Return the user table in the order of user_ids; users it lacks have nulls."""
    return _aligned(dataset.users, "user_id", user_ids)


def _changing(side: str, name: str) -> str:
    return (
        f"does {side} column {name!r} change by the hour? A model learns what it was at training. "
        f"If so, leave it out (--set 'data.features.{name}=\"ignore\"') and filter by it (where=)"
    )


def _check_declared(
    declared: Mapping[str, FeatureSpec], tables: Mapping[str, pl.DataFrame | None]
) -> None:
    known = {
        side: [c for c in table.columns if c != f"{side}_id"] if table is not None else []
        for side, table in tables.items()
    }
    allowed = {name for names in known.values() for name in names}
    allowed |= {f"{side}.{name}" for side, names in known.items() for name in names}
    if "n_events" in known["item"]:
        raise DataError("item table: column 'n_events' is what a bundle counts itself; rename it")
    for side, names in known.items():
        if wrong := next((name for name in names if "\0" in name), None):
            raise DataError(
                f"{side} table: got a column named {wrong!r}, expected one without '\\x00', which "
                "no bundle can hold; rename it"
            )
    for name, spec in declared.items():
        if spec.kind == "history":
            raise DataError(
                f"data.features.{name}: got kind 'history', expected it for the key history alone; "
                "choose another kind"
            )
        if name not in allowed:
            columns = ", ".join(f"{s}.{n}" for s, names in known.items() for n in names)
            raise DataError(
                f"data.features.{name}: no such column, allowed: {columns or '(no tables given)'}"
            )


def _wanted(config: Any, side: str) -> bool:
    if config.model.encoder in CLOSED_FORM:
        return False
    return bool(config.model.item_features if side == "item" else config.model.user_features)


def _column(table: pl.DataFrame, name: str) -> pl.Series:
    if name in table.columns:
        return table[name]
    return pl.Series(name, [None] * table.height, dtype=pl.Null)


def _id_series(ids: NDArray[Any]) -> pl.Series:
    if ids.dtype.kind in "OUS":
        return pl.Series("item_id", ids.tolist())
    return pl.Series("item_id", ids)


def _aligned(table: pl.DataFrame | None, key: str, ids: NDArray[Any]) -> pl.DataFrame:
    frame = _id_series(ids).alias(key).to_frame()
    if table is None:
        return frame
    table = table.unique(subset=key, keep="first", maintain_order=True)
    return frame.cast({key: table.schema[key]}).join(
        table, on=key, how="left", maintain_order="left"
    )
