"""Readers for the common file formats of recommendation data, by fixed names, and ``auto``.

==========  =========================================================================
movielens   folder of ml-100k (u.data), ml-1m/10m (ratings.dat), ml-latest/20m… (ratings.csv)
recbole     atomic files: folder or .inter file, with optional .item and .user
sasrec      ``user item`` a line, each user's items oldest first; .gz is fine
s3rec       ``user item item …`` a line, oldest first; .gz is fine
lightgcn    folder with train.txt and test.txt, ``user item item …`` a line
events      a table with user_id, item_id, timestamp (or a folder of such tables): CSV, TSV,
            JSON lines, Parquet or Arrow
==========  =========================================================================

Where a format has no times, the order in the file is the order in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl

from shortlist.errors import DataError
from shortlist.training.data.columns import first_true, parse_ids
from shortlist.training.data.events import Dataset, make_events
from shortlist.training.data.movielens import find_ratings, read_movielens
from shortlist.training.data.reading import Reading
from shortlist.training.data.recbole import read_recbole
from shortlist.training.data.tables import (
    TABLE_SUFFIXES,
    Table,
    TableSource,
    is_folder_of_parts,
    read_lines,
)

FORMATS = ("auto", "movielens", "recbole", "sasrec", "s3rec", "lightgcn", "events")


def read_dataset(path: Path, format: str = "auto") -> Dataset:
    """Read a file or folder in one of ``FORMATS``.

    Raises
    ------
    DataError
        The path does not exist, the format is unknown or (with "auto") not certain, or a line is
        not as the format says; the message names file, line, got, expected and fix.
    """
    if format not in FORMATS:
        raise DataError(
            f"format: got {format!r}, expected one of {list(FORMATS)}. Fix: use one of these"
        )
    if not path.exists():
        raise DataError(
            f"no such file or folder: {path}. Fix: check the path, or use a built-in "
            "name: movielens-100k, movielens-1m"
        )
    return _READERS[detect_format(path) if format == "auto" else format](path)


def detect_format(path: Path) -> str:
    """Name the format of a file or folder, or raise a DataError that says why it is not certain."""
    formats = _formats_of_folder(path) if path.is_dir() else _formats_of_file(path)
    if len(formats) == 1:
        return formats[0]
    if formats:
        raise DataError(
            f"{path}: could be {' or '.join(formats)}. Fix: say which, with format= (--format)"
        )
    seen = sorted(p.name for p in path.iterdir())[:8] if path.is_dir() else path.name
    raise DataError(
        f"{path}: format not recognised from {seen}, expected one of "
        f"{list(FORMATS[1:])}. Fix: name it with format= (--format)"
    )


def _formats_of_folder(folder: Path) -> list[str]:
    if is_folder_of_parts(folder):
        return ["events"]
    tests = {
        "movielens": find_ratings(folder) is not None,
        "recbole": any(folder.glob("*.inter")),
        "lightgcn": (folder / "train.txt").is_file() and (folder / "test.txt").is_file(),
        "events": table_in(folder, "events") is not None,
    }
    return [name for name, is_it in tests.items() if is_it]


def _formats_of_file(path: Path) -> list[str]:
    if path.suffix == ".inter":
        return ["recbole"]
    if path.name in ("u.data", "ratings.dat"):
        return ["movielens"]
    name = path.name.lower().removesuffix(".gz")
    if name == "ratings.csv" and path.is_file():
        header = read_lines(path, "a table of ratings").split("\n", 1)[0]
        return ["movielens"] if "movieId" in header else ["events"]
    if name.endswith(TABLE_SUFFIXES):
        return ["events"]
    if name.endswith(".txt") or "." not in name:
        return _formats_of_lines(path)
    return []


def _formats_of_lines(path: Path) -> list[str]:
    """Tell ``user item`` from ``user item item …`` by the first thousand lines."""
    text = read_lines(path, "lines of ids")
    rows = [line.split() for line in text[: 1 << 20].split("\n")[:1000] if line.strip()]
    if len(rows) > 1 and len(text) > 1 << 20:
        rows.pop()  # the block may have cut the last line
    users = {row[0] for row in rows}
    if all(len(row) == 2 for row in rows):
        # One line a user with one item each reads the same both ways.
        return ["sasrec"] if len(users) < len(rows) else ["sasrec", "s3rec"]
    if len(users) < len(rows):
        return []
    is_half = path.name == "train.txt" and (path.parent / "test.txt").is_file()
    return ["s3rec", "lightgcn (give the folder)"] if is_half else ["s3rec"]


def read_sasrec(path: Path) -> Dataset:
    """Read ``user item`` lines; each user's items are oldest first."""
    lines, numbers = _token_lines(_only_file(path, "sasrec"), "'user item' lines")
    counts = lines.list.len()
    if (row := first_true(counts != 2)) is not None:
        raise DataError(
            f"{path.name}, line {numbers[row]}: got {counts[row]} fields, expected 2 "
            "(user item). Fix: use format 's3rec' for 'user item item …', or 'events' "
            "for a table with more columns"
        )
    pairs = pl.DataFrame({"user_id": lines.list.get(0), "item_id": lines.list.get(1)})
    return Dataset(_name_of(path), _events_of(pairs, path), has_times=False)


def read_s3rec(path: Path) -> Dataset:
    """Read ``user item item …`` lines, oldest item first; each user has one line."""
    lines, numbers = _token_lines(_only_file(path, "s3rec"), "'user item item …' lines")
    users = lines.list.get(0)
    if (row := first_true(~users.is_first_distinct())) is not None:
        raise DataError(
            f"{path.name}, line {numbers[row]}: user {users[row]!r} has a line already, "
            "expected one line a user. Fix: use format 'sasrec' for 'user item' lines"
        )
    pairs = _pairs_of(lines)
    if pairs.height == 0:
        raise DataError(
            f"{path.name}: no line has an item, expected 'user item item …'. "
            "Fix: put each user's items on the user's line"
        )
    return Dataset(_name_of(path), _events_of(pairs, path), has_times=False)


def read_lightgcn(path: Path) -> Dataset:
    """Read train.txt as events and test.txt as the given test events."""
    folder = path if path.is_dir() else path.parent
    parts = []
    for name in ("train.txt", "test.txt"):
        if not (folder / name).is_file():
            raise DataError(
                f"{folder}: no {name}, expected train.txt and test.txt. "
                "Fix: give the folder that holds both"
            )
        # A user without test items is a line with the user alone.
        parts.append(_pairs_of(_token_lines(folder / name, "'user item item …' lines")[0]))
    both = _events_of(pl.concat(parts), folder, in_order=True)
    n_train = parts[0].height
    return Dataset(_name_of(folder), both[:n_train], test_events=both[n_train:], has_times=False)


def read_event_tables(
    path: Path,
    reading: Reading | None = None,
    *,
    items: TableSource | None = None,
    users: TableSource | None = None,
) -> Dataset:
    """Read an events table (a file or a folder of parts), or a folder of tables by their names.

    These are events.*, and items.* and users.* if there are any, unless others are given.
    """
    reading = reading or Reading()
    if not path.is_dir() or is_folder_of_parts(path):
        dataset = Dataset(_name_of(path), reading.events(path))
        return reading.tables(items, users).into(dataset)
    source = table_in(path, "events")
    if source is None:
        raise DataError(
            f"{path}: no events table, expected events with one of "
            f"{list(TABLE_SUFFIXES)}. Fix: name the file events.csv, or give its path"
        )
    items = table_in(path, "items") if items is None else items
    users = table_in(path, "users") if users is None else users
    dataset = Dataset(path.resolve().name, reading.events(source))
    return reading.tables(items, users).into(dataset)


def _token_lines(path: Path, expected: str) -> tuple[pl.Series, pl.Series]:
    """Return the tokens (List[String]) and the 1-based number of every line that is not blank."""
    lines = pl.Series("line", read_lines(path, expected).split("\n")).str.strip_chars()
    frame = pl.DataFrame(
        {
            "tokens": lines.str.replace_all(r"\s+", " ").str.split(" "),
            "number": pl.int_range(1, len(lines) + 1, eager=True),
        }
    ).filter(lines != "")
    return frame["tokens"], frame["number"]


def _pairs_of(lines: pl.Series) -> pl.DataFrame:
    frame = pl.DataFrame({"user_id": lines.list.get(0), "item_id": lines.list.slice(1)})
    return frame.filter(pl.col("item_id").list.len() > 0).explode("item_id")


def _events_of(pairs: pl.DataFrame, path: Path, *, in_order: bool = False) -> pl.DataFrame:
    """Give pairs of tokens their ids' type and their place in the file as time."""
    table = Table(pairs, path.name, is_text=True)
    users, items = parse_ids(table, "user_id"), parse_ids(table, "item_id")
    if not in_order:
        return make_events(users, items)
    # Keep rows where they are, so that train and test can be cut apart again.
    numbered = make_events(pl.int_range(len(users), eager=True), items)
    return numbered.with_columns(users.alias("user_id"))


def _only_file(path: Path, format: str) -> Path:
    if not path.is_dir():
        return path
    files = [p for p in path.iterdir() if p.name.endswith((".txt", ".txt.gz"))]
    if len(files) != 1:
        raise DataError(
            f"{path} is a folder with {len(files)} .txt files, expected one file for "
            f"format {format!r}. Fix: give the file"
        )
    return files[0]


def table_in(folder: Path, stem: str) -> Path | None:
    """Find the table with this name and any known ending, or the folder of parts."""
    names: Iterable[str] = (f"{stem}{s}{z}" for s in TABLE_SUFFIXES for z in ("", ".gz"))
    found = [folder / name for name in (*names, stem)]
    return next((path for path in found if path.is_file() or is_folder_of_parts(path)), None)


def _name_of(path: Path) -> str:
    return path.resolve().name.removesuffix(".gz").rsplit(".", 1)[0] or path.name


_READERS: dict[str, Callable[[Path], Dataset]] = {
    "movielens": read_movielens,
    "recbole": read_recbole,
    "sasrec": read_sasrec,
    "s3rec": read_s3rec,
    "lightgcn": read_lightgcn,
    "events": read_event_tables,
}
