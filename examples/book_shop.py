"""Write the book shop of docs/first_hour.md: events of customers, and a table of books.

Customers have favourite genres and authors, and go on with a series that they began. The tables
look as such tables do: text ids, times in two zones, columns under names of their own, empty cells.

    python examples/book_shop.py books      # writes books/events.csv and books/books.parquet
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl

GENRES = ["crime", "fantasy", "history", "poetry", "romance", "science", "travel", "youth"]
SYLLABLES = ["an", "bre", "dor", "el", "fjo", "gar", "ið", "kal", "lü", "mar", "nev", "ori", "ße"]
FIRST_DAY = datetime(2025, 3, 1, tzinfo=UTC)
ZONES = [UTC, timezone(timedelta(hours=2))]


def name(rng: np.random.Generator) -> str:
    return "".join(rng.choice(SYLLABLES, rng.integers(2, 4))).capitalize()


def write_books(rng: np.random.Generator, n: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Return the table, and for each book the row of the next volume (-1: none)."""
    authors = [f"{name(rng)} {name(rng)}" for _ in range(n // 8)]
    rows, following = [], np.full(n, -1)
    while len(rows) < n:
        author = int(rng.integers(len(authors)))
        n_volumes = min(int(rng.choice([1, 1, 1, 3, 5])), n - len(rows))
        title, genre = f"{name(rng)} {name(rng)}", GENRES[author % len(GENRES)]
        for volume in range(1, n_volumes + 1):
            row = len(rows)
            following[row] = row + 1 if volume < n_volumes else -1
            rows.append(
                {
                    "book_id": f"{genre}/{row:04d}",
                    "name": title + (f", volume {volume}" if n_volumes > 1 else ""),
                    "author": authors[author],
                    "genre": genre,
                    "pages": int(rng.integers(80, 900)) if rng.random() < 0.9 else None,
                    "price": round(float(rng.uniform(4, 40)), 2) if rng.random() < 0.95 else None,
                    "published": 2025 - int(rng.integers(0, 40)),
                }
            )
    return pl.DataFrame(rows), following


def read_books(
    rng: np.random.Generator, books: pl.DataFrame, following: np.ndarray, n_events: int
) -> list[int]:
    """Return the rows of the books that one customer looks at, in order."""
    genre, author = (books[column].to_numpy() for column in ("genre", "author"))
    popularity = 1 / (1 + rng.permutation(len(books)) % 200)
    liked = np.isin(genre, rng.choice(GENRES, 2, replace=False))
    weight = popularity * np.where(liked, 1.0, 0.05)
    seen: list[int] = []
    for _ in range(n_events):
        row = -1
        if seen and rng.random() < 0.5:  # the next volume, or another book of the author
            row = int(following[seen[-1]])
            if row < 0:
                others = np.flatnonzero(author == author[seen[-1]])
                row = int(rng.choice(others))
        if row < 0 or row in seen:
            row = int(rng.choice(len(books), p=weight / weight.sum()))
        seen.append(row)
    return seen


def write_events(
    rng: np.random.Generator, books: pl.DataFrame, following: np.ndarray, n_customers: int
) -> pl.DataFrame:
    ids = books["book_id"].to_list()
    rows = []
    for number in range(n_customers):
        customer, zone = f"{name(rng)}-{number}", ZONES[number % 2]
        moment = FIRST_DAY + timedelta(days=float(rng.uniform(0, 200)))
        for book in read_books(rng, books, following, 2 + int(rng.geometric(1 / 12))):
            moment += timedelta(minutes=float(rng.exponential(2000)))
            kinds = ["view", "cart", "purchase"][: 1 + int(rng.choice(3, p=[0.7, 0.1, 0.2]))]
            for i, kind in enumerate(kinds):
                time = (moment + timedelta(minutes=i)).astimezone(zone)
                rows.append((customer, ids[book], kind, time.isoformat(timespec="seconds")))
    return pl.DataFrame(rows, schema=["customer", "book", "action", "time"], orient="row")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder to write to")
    parser.add_argument("--customers", type=int, default=3000, help="number (default: 3000)")
    parser.add_argument("--books", type=int, default=2000, help="number (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    books, following = write_books(rng, args.books)
    events = write_events(rng, books, following, args.customers)
    args.folder.mkdir(parents=True, exist_ok=True)
    books.write_parquet(args.folder / "books.parquet")
    events.write_csv(args.folder / "events.csv")
    print(f"{len(events):,} events of {args.customers:,} customers, {len(books):,} books")


if __name__ == "__main__":
    main()
