"""The bundles of one evaluation: opened, told apart, and brought to common ground."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl

import shortlist
from shortlist.errors import DataError
from shortlist.training.config.values import unknown
from shortlist.training.data.counted import counted
from shortlist.training.evaluation.beyond import ItemColumn

if TYPE_CHECKING:
    import numpy.typing as npt

    from shortlist.engine import Engine
    from shortlist.training.splits.parts import Split

    Bundle: TypeAlias = "str | Path | Engine"

__all__ = ["common_ground", "item_column", "list_bundles", "opened", "stored_items"]


def list_bundles(against: Bundle | Sequence[Bundle]) -> list[Bundle]:
    """Make a list of one bundle or several, and refuse what is no bundle."""
    is_one = isinstance(against, str | Path | shortlist.Engine) or not isinstance(against, Iterable)
    bundles: list[Bundle] = [against] if is_one else list(against)  # type: ignore[list-item, arg-type]
    for bundle in bundles:
        if not isinstance(bundle, str | Path | shortlist.Engine):
            raise DataError(
                f"against: got {type(bundle).__name__}, expected the path of a bundle or an Engine"
            )
    return bundles


@contextmanager
def opened(bundle: Bundle, against: Sequence[Bundle]) -> Iterator[dict[str, Engine]]:
    """Open bundles, the one that is evaluated first, each under a name of its own.

    Engines stay open at the end; what was opened here is closed.

    Raises
    ------
    DataError
        A bundle is there twice, or its item ids are of another type than those of the first.
    """
    paths = [_path(one) for one in (bundle, *against)]
    for path in paths[1:]:
        if paths.count(path) > 1:
            what = "the bundle itself" if path == paths[0] else "a bundle twice"
            raise DataError(
                f"against: got {what}, {path}, expected other bundles, each once; leave it out"
            )
    names = [path.name for path in paths]
    labels = [str(p) if names.count(p.name) > 1 else p.name for p in paths]
    with ExitStack() as stack:
        engines = {
            label: one
            if isinstance(one, shortlist.Engine)
            else stack.enter_context(shortlist.load(one, n_threads=0))
            for label, one in zip(labels, (bundle, *against), strict=True)
        }
        _check_id_types(engines)
        yield engines


def _path(bundle: Bundle) -> Path:
    path = bundle.bundle.path if isinstance(bundle, shortlist.Engine) else Path(bundle)
    return path.resolve()


def _check_id_types(engines: Mapping[str, Engine]) -> None:
    named = {"int64": "whole numbers", "string": "text"}
    first, *others = engines
    wanted = engines[first].item_id_dtype
    for other in others:
        if engines[other].item_id_dtype != wanted:
            raise DataError(
                f"against: {other}: got item ids that are {named[engines[other].item_id_dtype]}, "
                f"expected {named[wanted]} as in {first}; train both on the same tables"
            )


def stored_items(engines: Mapping[str, Engine]) -> pl.DataFrame:
    """Return the column ``item_id``: the items of all bundles, each once, those of the first first.

    Raises
    ------
    DataError
        A bundle has no item of the first one.
    """
    first, *others = engines
    columns = [pl.Series("item_id", np.asarray(engines[first].index.item_ids).tolist())]
    for other in others:
        column = pl.Series("item_id", np.asarray(engines[other].index.item_ids).tolist())
        if not column.is_in(columns[0].implode()).any():
            raise DataError(
                f"against: {other}: got {counted(len(column), 'item')}, of which {first} has none "
                f"(the first is {column[0]!r}, there {columns[0][0]!r}), expected bundles of the "
                "same catalogue"
            )
        columns.append(column)
    return pl.concat(columns).unique(maintain_order=True).to_frame()


def common_ground(
    split: Split, engines: Mapping[str, Engine]
) -> tuple[npt.NDArray[np.bool_] | None, str | None]:
    """Say which items can be ranked by all bundles alike, and which are left out.

    Items that no bundle has stay: they are out of reach for all of them.

    Returns
    -------
    ndarray of shape (n_items,), bool, or None
        By row of the catalogue; None where all bundles have the same items.
    str or None
        What is left out, as a sentence.
    """
    catalogue = split.catalogue.tolist()
    owned = {label: set(engine.index.item_ids.tolist()) for label, engine in engines.items()}
    has = {label: np.array([item in ids for item in catalogue]) for label, ids in owned.items()}
    n_have = np.sum(list(has.values()), axis=0)
    some: npt.NDArray[np.bool_] = (n_have > 0) & (n_have < len(has))
    if not some.any():
        return None, None
    lacks = [f"{label} lacks {int((some & ~own).sum()):,}" for label, own in has.items()]
    sentence = (
        f"{counted(int(some.sum()), 'item')} that only some of the bundles have are neither ranked "
        f"nor targets, so that lists can be compared ({', '.join(lacks)})"
    )
    return ~some, sentence


def item_column(name: str, split: Split, engines: Mapping[str, Engine]) -> ItemColumn:
    """Find a column of the item table: in the data, else in a bundle.

    Raises
    ------
    DataError
        No table has it, or it has no value.
    """
    bundles = (pl.DataFrame(engine.items) for engine in engines.values())
    frames = [frame for frame in (split.dataset.items, *bundles) if frame is not None]
    known = {column: None for frame in frames for column in frame.columns if column != "item_id"}
    if name not in known:
        raise DataError(unknown("by_column", name, known))
    frame = next(frame for frame in frames if name in frame.columns)
    ids = pl.Series("item_id", split.catalogue.tolist()).cast(pl.String).to_frame()
    table = frame.select(pl.col("item_id").cast(pl.String), name)
    return ItemColumn(name, ids.join(table, on="item_id", how="left", maintain_order="left")[name])
