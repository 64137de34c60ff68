"""Drop events that cannot be right, and say which and why: `clean_file` and `clean_events`.

Rows stream from the source through the rules on single rows into one temporary file for each group
of users, so memory holds one group at a time; only the k-core looks at all events at once, as two
numbers each.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from shortlist._temporary import folder_for
from shortlist.errors import DataError
from shortlist.training.cleaning import rules
from shortlist.training.cleaning.report import N_EXAMPLES, CleaningReport, Example, RuleReport
from shortlist.training.config.sections import CleaningConfig
from shortlist.training.data import times
from shortlist.training.data.columns import (
    lost_digits,
    lost_digits_error,
    may_have_lost_digits,
    plain_integer,
)
from shortlist.training.data.events import DEFAULT_KIND, EVENT_COLUMNS, Dataset, say_columns
from shortlist.training.data.joins import MIN_COVERAGE, coverage_error
from shortlist.training.data.summary import EventSummary, summarise_events
from shortlist.training.data.tables import TableSource, log, require_columns, scan_table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from shortlist.training.data.tables import LazyTable

MANY_ROWS = 1_000_000  # from here on people wait
ROWS_PER_PART = 4_000_000  # of one temporary file: about a GiB of memory at work
Row: TypeAlias = dict[str, Any]  # one dropped row as it is in the source
OUT_SUFFIXES = (".parquet", ".csv", ".arrow")
_BROKEN = 255  # number of the temporary file of rows that the row rules drop


def clean_events(
    source: TableSource,
    config: CleaningConfig | None = None,
    *,
    items: pl.Series | None = None,
    columns: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
    time_unit: str = "auto",
    time_format: str = "",
    progress: bool = False,
) -> tuple[pl.DataFrame, CleaningReport]:
    """Clean events into a frame for training.

    Parameters
    ----------
    source : path or frame
        As for `events.read_events`; cells may be broken in any way.
    config : CleaningConfig, optional
        Section ``[cleaning]``; the defaults if left out.
    items : polars.Series, optional
        Ids of the item table, for ``unknown_items``; without it the rule does not run.
    columns, ignore, time_unit, time_format
        As for `events.read_events`.
    progress : bool
        Show a progress bar on tables of millions of rows.

    Returns
    -------
    events : polars.DataFrame
        Columns ``EVENT_COLUMNS``, as `events.read_events` gives them.
    report : CleaningReport

    Raises
    ------
    DataError
        The table cannot be read; a rule is off and a cell cannot be used without it; no event is
        left.
    """
    table = scan_table(source, columns=columns, ignore=ignore)
    with folder_for(Path(tempfile.gettempdir()) / "clean") as folder:
        form = (time_unit, time_format)
        parts, report = _clean(table, config, items, form, folder, progress=progress)
        _require_events(report)
        frames = [pl.read_ipc(part).drop("row", "code", strict=False) for part in parts]
    events = pl.concat(frames).sort("user_id", "timestamp", maintain_order=True)
    kind = pl.col("kind").fill_null(DEFAULT_KIND)
    seconds = pl.col("timestamp") // 1_000_000
    return events.with_columns(kind, seconds).select(EVENT_COLUMNS), report


def clean_file(
    source: TableSource,
    out: Path,
    config: CleaningConfig | None = None,
    *,
    items: pl.Series | None = None,
    columns: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
    time_unit: str = "auto",
    time_format: str = "",
    progress: bool = False,
) -> CleaningReport:
    """Clean events into a file, in batches: the source may be larger than memory.

    ``out`` ends in .parquet, .csv or .arrow and appears only when it is complete. It has the five
    event columns, times as datetimes (UTC); a user's events are in the order of the source. Other
    parameters and errors as for `clean_events`; with no event left, nothing is written.
    """
    if out.suffix not in OUT_SUFFIXES:
        raise DataError(
            f"out: got {str(out)!r}, expected a name that ends in one of {list(OUT_SUFFIXES)}. "
            "Fix: choose one of these endings"
        )
    if not out.parent.is_dir():
        raise DataError(f"out: no such folder: {out.parent}. Fix: create it")
    if isinstance(source, str | Path) and Path(source).resolve() == out.resolve():
        raise DataError(f"out: got {str(out)!r}, which is the source. Fix: choose another name")
    table = scan_table(source, columns=columns, ignore=ignore)
    with folder_for(out) as folder:
        form = (time_unit, time_format)
        parts, report = _clean(table, config, items, form, folder, progress=progress)
        _require_events(report)
        events = pl.concat([pl.scan_ipc(part) for part in parts]).select(
            "user_id",
            "item_id",
            pl.from_epoch("timestamp", time_unit="us").dt.replace_time_zone("UTC"),
            pl.col("kind").fill_null(DEFAULT_KIND),
            "value",
        )
        temporary = folder / f"out{out.suffix}"
        if out.suffix == ".parquet":
            events.sink_parquet(temporary, compression="snappy")
        elif out.suffix == ".arrow":
            events.sink_ipc(temporary, compression="uncompressed")
        else:
            events.sink_csv(temporary, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
        temporary.replace(out)
    return report


def clean_dataset(
    dataset: Dataset,
    config: CleaningConfig | None = None,
    *,
    items: pl.Series | None = None,
    progress: bool = False,
) -> tuple[Dataset, CleaningReport]:
    """Clean the events of a loaded dataset, against its own item table if it has one, else items.

    Where a format has no times, the rules on times do not run. Given test events stay as they are.
    """
    config = config or CleaningConfig()
    if not dataset.has_times:
        config = dataclasses.replace(config, timestamps=False, bots=False)
    items = items if dataset.items is None else dataset.items["item_id"]
    events, report = clean_events(
        dataset.events, config, items=items, time_unit="s", progress=progress
    )
    events_said = report.events
    if events_said is not None and not dataset.has_times:
        events_said = dataclasses.replace(events_said, first=None, last=None)
    named = dataclasses.replace(report, source=dataset.name, events=events_said)
    return dataclasses.replace(dataset, events=events), named


class _Tally:
    """Rows dropped and the first of them, rule by rule."""

    def __init__(self) -> None:
        self.n_dropped: dict[str, int] = {}
        self.examples: dict[str, list[Row]] = {}

    def add(self, rule: str, n_dropped: int, first: pl.DataFrame) -> None:
        """Count dropped rows; ``first`` holds the first of them."""
        self.n_dropped[rule] = self.n_dropped.get(rule, 0) + n_dropped
        rows = self.examples.get(rule, []) + first.head(N_EXAMPLES).to_dicts()
        self.examples[rule] = sorted(rows, key=lambda row: row["row"])[:N_EXAMPLES]


def _clean(
    table: LazyTable,
    config: CleaningConfig | None,
    items: pl.Series | None,
    form: tuple[str, str],
    folder: Path,
    *,
    progress: bool,
) -> tuple[list[Path], CleaningReport]:
    """Run all rules; gives the files of the events kept, by groups of users."""
    config = config or CleaningConfig()
    started = time.perf_counter()
    require_columns(table, ("user_id", "item_id", "timestamp"), "events")
    tally = _Tally()
    known = items if config.unknown_items else None
    n_rows, parts = _split_rows(table, config, known, form, folder, tally)
    say_columns(table.source, table.columns, n_rows)
    _check_coverage(table, known, n_rows, tally)
    is_long = progress and n_rows >= MANY_ROWS
    with tqdm(
        total=n_rows, unit=" rows", unit_scale=True, desc="clean", disable=not is_long
    ) as bar:
        for part in parts:
            bar.update(_clean_part(part, config, tally))
        bar.total = bar.n  # rows that the row rules dropped are in no part
    if config.k_core:
        _keep_core(parts, config, tally)
    events = _summarise(parts)
    seconds = round(time.perf_counter() - started, 3)
    report = _report(table, config, tally, n_rows, items is not None)
    return parts, dataclasses.replace(report, events=events, seconds=seconds)


def _check_coverage(table: LazyTable, known: pl.Series | None, n_rows: int, tally: _Tally) -> None:
    """Stop where nearly no event's item is in the item table: the ids are written otherwise."""
    if known is None:
        return
    n_unknown = tally.n_dropped.get("unknown_items", 0)
    n_seen = n_rows - sum(n for rule, n in tally.n_dropped.items() if rule != "unknown_items")
    share = 1 - n_unknown / max(n_seen, 1)
    log.info(
        "%s: %.1f%% of %s events have their item in the item table",
        table.source,
        100 * share,
        f"{n_seen:,}",
    )
    if share < MIN_COVERAGE:
        ids = rules.collect(table, table.frame.select("item_id").head(1000))
        raise coverage_error(table.source, share, ids, known)


def _split_rows(
    table: LazyTable,
    config: CleaningConfig,
    known_items: pl.Series | None,
    form: tuple[str, str],
    folder: Path,
    tally: _Tally,
) -> tuple[int, list[Path]]:
    """Write the rows that pass the row rules by groups of users; count and show the others."""
    schema = table.frame.collect_schema()
    unit, layout = form
    written = times.written_as(
        table,
        schema["timestamp"],
        unit,
        lambda query: rules.collect(table, query),
        time_format=layout,
    )
    columns = rules.usable_columns(table, schema, written)
    n_rows = _integers_where_all_are(table, schema, columns)
    if n_rows >= MANY_ROWS:
        log.info("%s: reading %s rows", table.source, f"{n_rows:,}")
    known_items = _as_type_of(columns["item_id"], table, known_items)
    # Each column is read once; the rules then look at what was read.
    read = table.frame.with_row_index("row").select("row", **columns, **rules.flags(schema))
    as_read = {name: pl.col(name) for name in columns}
    unusable, outside = rules.broken_rows(as_read, config, known_items)
    code = pl.lit(0, pl.UInt8)
    for broken_by in (outside, unusable):  # the first rule wins, and unusable before out of bounds
        for number, rule in reversed(list(enumerate(rules.ROW_RULES, 1))):
            if rule in broken_by and (getattr(config, rule) or broken_by is unusable):
                code = pl.when(broken_by[rule]).then(pl.lit(number, pl.UInt8)).otherwise(code)
    n_parts = max(1, min(64, -(-n_rows // ROWS_PER_PART)))
    group = (pl.col("user_id").hash(3) % n_parts).cast(pl.UInt8)
    rows = read.select("row", code=code, part=group, **as_read)
    is_broken = pl.col("code") > 0
    split = rows.with_columns(pl.when(is_broken).then(_BROKEN).otherwise("part").alias("part"))
    target = pl.PartitionBy(
        folder / "parts", key="part", include_key=False, approximate_bytes_per_file=None
    )  # one file a group, whatever its size: the rules on users look at one file
    try:
        split.sink_ipc(target, compression="uncompressed", mkdir=True)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise table.explain(error) from error
    files = sorted((folder / "parts").glob("part=*/*"))
    broken = [file for file in files if file.parent.name == f"part={_BROKEN}"]
    if broken:
        _tally_broken(table, pl.scan_ipc(broken), config, tally)
    return n_rows, [file for file in files if file not in broken]


def _integers_where_all_are(
    table: LazyTable, schema: pl.Schema, columns: dict[str, pl.Expr]
) -> int:
    """Make text ids integers as `columns.parse_ids` does; gives the number of rows."""
    names = ("user_id", "item_id")
    plain = [
        (plain_integer(name).is_not_null() | columns[name].is_null()).all().alias(name)
        for name in names
        if table.is_text
    ]
    if plain:  # the first rows show most text to be no integers
        head = rules.collect(table, table.frame.head(1000)).select(plain)
        plain = [flag for flag in plain if head[flag.meta.output_name()].item()]
    flags = [
        may_have_lost_digits(name, schema[name], is_file_text=table.is_text).any() for name in names
    ]
    flags = [flag.alias(f"lost_{name}") for name, flag in zip(names, flags, strict=True)]
    found = rules.collect(table, table.frame.select(*plain, *flags, n_rows=pl.len()))
    for name in names:
        if found[f"lost_{name}"].item():
            is_lost = lost_digits(name, schema[name], is_file_text=table.is_text)
            rows = table.frame.with_row_index("row").filter(is_lost).select("row", name)
            for row, got in rules.collect(table, rows.head(1)).iter_rows():
                raise lost_digits_error(table, name, row, got)
    for flag in plain:
        name = flag.meta.output_name()
        if found[name].item():
            columns[name] = plain_integer(name)
    return int(found["n_rows"].item())


def _as_type_of(
    item_id: pl.Expr, table: LazyTable, known_items: pl.Series | None
) -> pl.Series | None:
    """Give the item table's ids the type of the events' ids."""
    if known_items is None:
        return None
    dtype = table.frame.select(item_id.alias("item_id")).collect_schema()["item_id"]
    # Text that is no integer is no id of an integer table: null matches nothing.
    return known_items.cast(dtype, strict=False).drop_nulls().unique()


def _tally_broken(
    table: LazyTable, broken: pl.LazyFrame, config: CleaningConfig, tally: _Tally
) -> None:
    """Count the rows the row rules drop, and read the first of each as they are in the source."""
    counts = broken.group_by("code").agg(pl.len(), pl.col("row").sort().head(N_EXAMPLES)).collect()
    wanted = counts["row"].explode()
    raw = table.frame.with_row_index("row").filter(pl.col("row").is_in(wanted.implode()))
    shown = rules.collect(table, raw.head(len(wanted)))
    shown = shown.select("row", *(name for name in EVENT_COLUMNS if name in shown.columns))
    for number, n_rows, rows in counts.sort("code").iter_rows():
        rule, first = rules.ROW_RULES[number - 1], shown.filter(pl.col("row").is_in(rows))
        if not getattr(config, rule):
            raise DataError(
                f"{table.source}, {table.place(rows[0])}: got {first.row(0, named=True)}, expected "
                f"cells without this: {rules.described(config)[rule]} ({n_rows} such rows). Fix: "
                f"correct them, or turn on cleaning.{rule}"
            )
        tally.add(rule, n_rows, first)


def _summarise(parts: list[Path]) -> EventSummary:
    columns = ["user_id", "item_id", "timestamp", "kind"]
    kind = pl.col("kind").fill_null(DEFAULT_KIND)
    frames = (pl.read_ipc(part, columns=columns).with_columns(kind) for part in parts)
    return summarise_events(frames, per_second=1_000_000)


def _clean_part(part: Path, config: CleaningConfig, tally: _Tally) -> int:
    """Apply the rules that look at the events of one user; gives the events that came in."""
    events = pl.read_ipc(part).drop("code")
    repeats = rules.may_repeat(events)
    n_before = events.height
    for rule in ("duplicates", "conflicts", "bots"):
        if getattr(config, rule) in (False, "off"):
            continue
        if rule == "bots":
            dropped = rules.bot_rows(events, config.max_events_per_day)
        else:
            keep = config.conflicts if rule == "conflicts" else None
            dropped = rules.repeated_rows(events, repeats, keep)
        if dropped.any():
            tally.add(rule, int(dropped.sum()), _readable(events.filter(dropped)))
            events, repeats = events.filter(~dropped), repeats.filter(~dropped)
    if events.height < n_before:
        events.write_ipc(part, compression="uncompressed")
    return n_before


def _readable(events: pl.DataFrame) -> pl.DataFrame:
    first = events.head(N_EXAMPLES)
    return first.with_columns(pl.from_epoch("timestamp", time_unit="us").dt.to_string("iso:strict"))


def _keep_core(parts: list[Path], config: CleaningConfig, tally: _Tally) -> None:
    """Drop events until every user and every item left has enough of them."""
    ids = pl.concat([pl.scan_ipc(part).select("item_id") for part in parts])
    items = ids.unique().collect(engine="streaming").with_row_index("item")
    columns, n_users, heights = [], 0, []
    for part in parts:
        events = pl.read_ipc(part, columns=["user_id", "item_id"])
        users = events.select(pl.col("user_id").unique()).with_row_index("user", offset=n_users)
        coded = events.join(users, on="user_id", how="left", maintain_order="left")
        coded = coded.join(items, on="item_id", how="left", maintain_order="left")
        columns.append((coded["user"].to_numpy(), coded["item"].to_numpy()))
        n_users += users.height
        heights.append(events.height)
    user, item = (np.concatenate(side) for side in zip(*columns, strict=True))
    least = config.min_user_events, config.min_item_events
    is_in_core = core_mask(user, item, n_users, items.height, least)
    for part, is_kept in zip(parts, np.split(is_in_core, np.cumsum(heights)[:-1]), strict=True):
        if not is_kept.all():
            events = pl.read_ipc(part)
            dropped = ~pl.Series(is_kept)
            tally.add("k_core", int(dropped.sum()), _readable(events.filter(dropped)))
            events.filter(~dropped).write_ipc(part, compression="uncompressed")


def core_mask(
    users: NDArray[np.uint32],
    items: NDArray[np.uint32],
    n_users: int,
    n_items: int,
    least: tuple[int, int],
) -> NDArray[np.bool_]:
    """Say which events belong to the k-core: the largest set with enough events of each side."""
    events = np.arange(len(users), dtype=np.uint32)
    while True:
        enough_users = np.bincount(users[events], minlength=n_users) >= least[0]
        enough_items = np.bincount(items[events], minlength=n_items) >= least[1]
        good = enough_users[users[events]] & enough_items[items[events]]
        if good.all():
            break
        events = events[good]
    mask = np.zeros(len(users), np.bool_)
    mask[events] = True
    return mask


def _report(
    table: LazyTable,
    config: CleaningConfig,
    tally: _Tally,
    n_rows: int,
    has_items: bool,
) -> CleaningReport:
    reports, n_seen = [], n_rows
    rows = [row["row"] for examples in tally.examples.values() for row in examples]
    places = dict(zip(rows, table.places.of(rows), strict=True))
    for rule, what in rules.described(config).items():
        is_on = getattr(config, rule) not in (False, "off")
        if rule == "unknown_items" and is_on and not has_items:
            is_on, what = False, "not run: no item table"
        elif not is_on:
            what = f"off: {what}"
        n_dropped = tally.n_dropped.get(rule, 0)
        examples = [_shown(places[row["row"]], row) for row in tally.examples.get(rule, [])]
        reports.append(RuleReport(rule, what, is_on, n_seen, n_dropped, examples))
        n_seen -= n_dropped
    return CleaningReport(table.source, n_rows, n_seen, reports)


def _shown(place: str, row: Row) -> Example:
    """Make one dropped row JSON, with its place in the source."""
    cells = {name: row[name] for name in EVENT_COLUMNS if name in row}
    plain = {
        name: cell
        if cell is None or isinstance(cell, str | int) or (type(cell) is float and isfinite(cell))
        else str(cell)
        for name, cell in cells.items()
    }
    return {"place": place, **plain}


def _require_events(report: CleaningReport) -> None:
    if report.n_kept == 0:
        raise DataError(
            f"{report.source}: got no event that passes the rules, of {report.n_rows}, expected at "
            f"least one. Fix: correct the events, or the settings in [cleaning]\n{report}"
        )
