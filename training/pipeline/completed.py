"""What an evaluation ranks: the data, and what the bundles store of its items and users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from shortlist.bundle.tables import map_file, read_table
from shortlist.training.data.counted import counted
from shortlist.training.pipeline.compared import stored_items

if TYPE_CHECKING:
    from shortlist.bundle.manifest import Manifest
    from shortlist.engine import Engine
    from shortlist.training.data.events import Dataset

__all__ = ["Completed", "completed", "items_of_training", "missing_user_features"]

COUNTED = ("item_id", "n_events", "popular_score")  # columns of items.arrow that no table gave


@dataclass(frozen=True)
class Completed:
    """A dataset with what bundles store of its items and users, and where both came from.

    Attributes
    ----------
    dataset : Dataset
    tables : dict of str to str
        Where "items" and "users" were taken from: "data", "bundle", or "none".
    warnings : tuple of str
    """

    dataset: Dataset
    tables: dict[str, str]
    warnings: tuple[str, ...] = ()


def items_of_training(engine: Engine) -> pl.Series | None:
    """Return the ids of the bundle's items, if its training had an item table."""
    bundle = engine.bundle
    table = read_table(map_file(bundle.file("items.arrow")), bundle.manifest.n_items, {})
    has_table = set(table.column_names) - set(COUNTED)
    return pl.Series("item_id", table.column("item_id")) if has_table else None


def completed(dataset: Dataset, engines: Mapping[str, Engine]) -> Completed:
    """Add the bundles' items, and the users' features where the data has no user table."""
    stored, warnings = stored_items(engines), []
    known = [frame["item_id"] for frame in (dataset.events, dataset.items) if frame is not None]
    is_new = ~stored["item_id"].cast(pl.String).is_in(pl.concat(known).cast(pl.String).implode())
    n_new = int(is_new.sum())
    tables = {"items": "data" if dataset.items is not None else "bundle" if n_new else "none"}
    if dataset.items is None:
        dataset = replace(dataset, items=stored)
    elif n_new:
        have = "the bundle has" if len(engines) == 1 else "the bundles have"
        warnings.append(f"the data lacks {counted(n_new, 'item')} that {have}: ranked all the same")
        both = (dataset.items, stored.filter(is_new))
        key = pl.col("item_id")
        if len({frame["item_id"].dtype for frame in both}) > 1:
            key = key.cast(pl.String)
        items = pl.concat([frame.with_columns(key) for frame in both], how="diagonal")
        dataset = replace(dataset, items=items)
    tables["users"] = "none" if dataset.users is None else "data"
    if dataset.users is None:
        frames = [_user_frame(engine) for engine in engines.values()]
        users = next((frame for frame in frames if frame is not None), None)
        if users is not None:
            tables["users"] = "bundle"
            dataset = replace(dataset, users=users)
    return Completed(dataset, tables, tuple(warnings))


def _user_frame(engine: Engine) -> pl.DataFrame | None:
    """Read the users' features that the bundle stores; None if it stores none."""
    bundle, manifest = engine.bundle, engine.bundle.manifest
    names = [feature.name for feature in manifest.features_of("user")]
    if not names or not bundle.has("users.arrow"):
        return None
    table = read_table(map_file(bundle.file("users.arrow")), manifest.n_users, {})
    return pl.DataFrame(table.select(["user_id", *names]))


def missing_user_features(manifest: Manifest, dataset: Dataset) -> str | None:
    """Say which features of users a bundle was trained with and the data lacks, as a sentence."""
    wanted = [feature.name for feature in manifest.features_of("user")]
    has = [] if dataset.users is None else dataset.users.columns
    missing = [name for name in wanted if name not in has]
    if not missing:
        return None
    return (
        f"the bundle was trained with user features {missing}, which the data lacks "
        f"({'no user table' if dataset.users is None else f'it has {has}'}): ranked without them, "
        "so its metrics are too low; give --users"
    )
