"""MovieLens folders as GroupLens ships them: ml-100k, ml-1m, ml-10m, ml-20m/25m/32m, ml-latest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from shortlist._columns.files import read_bytes
from shortlist.errors import DataError
from shortlist.training.data.entities import entities_from_table, split_tags
from shortlist.training.data.events import Dataset, events_from_table
from shortlist.training.data.tables import (
    Table,
    check_is_text,
    read_delimited,
    read_lines,
    read_table,
)

RATINGS = ("u.data", "ratings.dat", "ratings.csv")
_EVENT_FIELDS = ("user_id", "item_id", "value", "timestamp")
_NO_GENRES = ("(no genres listed)", "unknown")
# "Usual Suspects, The (1995)" is "The Usual Suspects (1995)" to a reader.
_ARTICLES = "The|A|An|Il|La|Le|Les|L'|El|Los|Las|Lo|Das|Der|Die|Das|Den|Det|En|Ett|O|Os|I|Un|Une"
_ARTICLE = re.compile(rf"^(.+), ({_ARTICLES})(?=$| \()")


def find_ratings(folder: Path) -> Path | None:
    """Return the ratings file of a MovieLens folder, None if there is none."""
    return next((folder / name for name in RATINGS if (folder / name).is_file()), None)


def read_movielens(path: Path) -> Dataset:
    """Read a MovieLens folder (or its ratings file) with the movies and users beside it.

    Items get ``title`` ("The Usual Suspects (1995)"), ``year`` (Int64) and ``genres``
    (List[String]); users, where there are any, ``age``, ``gender``, ``occupation``, ``zip_code``.
    """
    ratings = find_ratings(path) if path.is_dir() else path
    if ratings is None or ratings.name not in RATINGS:
        raise DataError(
            f"{path}: no MovieLens ratings, expected a folder with one of "
            f"{list(RATINGS)}. Fix: give the unpacked folder, or name another format"
        )
    folder, name = ratings.parent, ratings.parent.resolve().name
    read = {"u.data": _read_100k, "ratings.dat": _read_dat, "ratings.csv": _read_csv}
    table, items, users = read[ratings.name](folder)
    return Dataset(name, events_from_table(table, duplicates="keep", kind="rating"), items, users)


def _read_100k(folder: Path) -> tuple[Table, pl.DataFrame | None, pl.DataFrame | None]:
    events = _delimited(folder / "u.data", "\t", _EVENT_FIELDS)
    items = users = None
    if (folder / "u.item").is_file():
        first = _text_of(folder / "u.item", "lines of movies").split("\n", 1)[0]
        n_fields = first.count("|") + 1
        genres = _genres_of(folder, n_fields - 5)
        names = ("item_id", "title", "release_date", "video_date", "url", *genres)
        table = _delimited(folder / "u.item", "|", names)
        flags = [pl.when(pl.col(g) == "1").then(pl.lit(g)) for g in genres if g not in _NO_GENRES]
        frame = table.frame.select(
            "item_id", "title", pl.concat_list(flags).list.drop_nulls().alias("genres")
        )
        items = movie_items(replace(table, frame=frame))
    if (folder / "u.user").is_file():
        names = ("user_id", "age", "gender", "occupation", "zip_code")
        users = _users(_delimited(folder / "u.user", "|", names))
    return events, items, users


def _genres_of(folder: Path, n_genres: int) -> list[str]:
    if not (folder / "u.genre").is_file():
        return [f"genre_{i}" for i in range(n_genres)]
    lines = _text_of(folder / "u.genre", "lines of genres").split()
    return [line.split("|")[0] for line in lines if "|" in line][:n_genres]


def _read_dat(folder: Path) -> tuple[Table, pl.DataFrame | None, pl.DataFrame | None]:
    events = _delimited(folder / "ratings.dat", "::", _EVENT_FIELDS)
    items = users = None
    if (folder / "movies.dat").is_file():
        table = _delimited(folder / "movies.dat", "::", ("item_id", "title", "genres"))
        items = movie_items(table)
    if (folder / "users.dat").is_file():
        names = ("user_id", "gender", "age", "occupation", "zip_code")
        users = _users(_delimited(folder / "users.dat", "::", names))
    return events, items, users


def _read_csv(folder: Path) -> tuple[Table, pl.DataFrame | None, pl.DataFrame | None]:
    ids = {"user_id": "userId", "item_id": "movieId", "value": "rating"}
    events = read_table(folder / "ratings.csv", columns=ids)
    items = None
    if (folder / "movies.csv").is_file():
        items = movie_items(
            read_table(folder / "movies.csv", columns={"item_id": "movieId"}, what="items")
        )
    return events, items, None


def _delimited(path: Path, separator: str, names: Sequence[str]) -> Table:
    """Read a headerless file; Latin-1 unless it is UTF-8 (GroupLens shipped both)."""
    expected = f"fields {list(names)}"
    text = _text_of(path, expected)
    if separator == "::":  # polars splits on one byte; neither ids nor titles hold a tab
        text, separator = text.replace("::", "\t"), "\t"
    return read_delimited(path, separator, names, expected, text=text)


def _text_of(path: Path, expected: str) -> str:
    try:
        return read_lines(path, expected)
    except DataError:
        data = read_bytes(path)
        check_is_text(data.decode("latin-1").encode(), path, expected)
        return data.decode("latin-1")


def movie_items(table: Table) -> pl.DataFrame:
    """Build the items: readable title, year from "(1995)" at its end, genres as a list."""
    genres = table.frame["genres"]
    if genres.dtype == pl.String:
        genres = split_tags(genres, "|")
    not_genre = pl.element().is_in(_NO_GENRES)
    frame = table.frame.with_columns(
        genres.to_frame().select(pl.col("genres").list.eval(pl.element().filter(~not_genre)))
    )
    ids = replace(table, frame=frame.select("item_id"))
    title = frame["title"].fill_null("").str.strip_chars()
    return entities_from_table(ids, "item_id", lists={}).with_columns(
        pl.Series("title", [readable_title(text) for text in title], dtype=pl.String),
        title.str.extract(r"\((\d{4})(?:[-–]\d{0,4})?\)\s*$", 1).cast(pl.Int64).alias("year"),
        frame["genres"],
    )


def readable_title(title: str) -> str:
    """Move a trailing article to the front.

    Examples
    --------
    >>> readable_title("Usual Suspects, The (1995)")
    'The Usual Suspects (1995)'
    """
    match = _ARTICLE.match(title)
    if match is None:
        return title
    article = match[2]
    space = "" if article.endswith("'") else " "
    return f"{article}{space}{match[1]}{title[match.end() :]}"


def _users(table: Table) -> pl.DataFrame:
    """Ages are numbers; occupation and zip code are codes even where they are written in digits."""
    users = entities_from_table(table, "user_id", lists={})
    order = ["user_id", "age", "gender", "occupation", "zip_code"]
    text = [table.frame[name].alias(name) for name in order[2:]]
    return users.with_columns(text).select(order)
