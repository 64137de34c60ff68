"""Find the tables that the settings name, clean the events, and keep the report beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from shortlist.errors import DataError
from shortlist.training.cleaning.clean import clean_dataset, clean_events, clean_file
from shortlist.training.cleaning.report import CleaningReport
from shortlist.training.config.sections import CleaningConfig, Config
from shortlist.training.config.settings import load_config
from shortlist.training.data.datasets import DATASETS, read_all, with_lists
from shortlist.training.data.events import Dataset
from shortlist.training.data.formats import detect_format, table_in
from shortlist.training.data.reading import Reading
from shortlist.training.data.tables import TableSource, is_folder_of_parts


def clean_files(
    *,
    out: Path,
    config_path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    report_path: Path | None = None,
    progress: bool = False,
) -> CleaningReport:
    """Clean the events of ``[data]`` by the rules of ``[cleaning]`` into a file.

    Parameters
    ----------
    out : Path
        File of the cleaned events.
    config_path, overrides
        As for `config.load_config`.
    report_path : Path, optional
        File of the report as JSON; its text goes beside it. ``OUT.report.json`` by default.
    progress : bool
        Show a progress bar on tables of millions of rows.

    Returns
    -------
    CleaningReport
        Saved as well.
    """
    config = load_config(path=config_path, overrides=overrides)
    if not config.data.path:
        raise DataError("data.path: got nothing, expected a table of events; give --data")
    if not _is_table(config):
        raise DataError(
            f"data.path: got {config.data.path!r}, expected a table of events or a folder with "
            "one. Fix: other formats are cleaned by `shortlist train` ([cleaning] enabled = true)"
        )
    reading = Reading.of(config.data)
    sources = _tables_of(config, Frames())
    tables = reading.tables(sources.items, sources.users)
    report = clean_file(
        sources.events,
        out,
        _rules_of(config),
        items=None if tables.items is None else tables.items["item_id"],
        progress=progress,
        **reading.of_events,
    )
    save_report(report, report_path or out.with_name(f"{out.name}.report.json"))
    return report


@dataclass(frozen=True)
class Frames:
    """Tables in place of those that ``[data]`` names: frames or paths; None keeps the setting."""

    events: TableSource | None = None
    items: TableSource | None = None
    users: TableSource | None = None


class _Tables(NamedTuple):
    events: TableSource
    items: TableSource | None
    users: TableSource | None


def load_configured(
    config: Config,
    *,
    frames: Frames | None = None,
    item_ids: pl.Series | None = None,
    progress: bool = True,
) -> tuple[Dataset, CleaningReport | None]:
    """Load the dataset of ``[data]``, cleaned by the rules of ``[cleaning]`` where enabled.

    Tables of events are cleaned as they are in the file, cells that `read_events` would refuse
    included; other formats are cleaned after they were read.

    Parameters
    ----------
    config : Config
    frames : Frames, optional
        Tables in place of those of ``[data]``.
    item_ids : polars.Series, optional
        The items that the rule ``unknown_items`` knows where there is no item table.
    progress : bool
        Show what is downloaded, and a bar while millions of rows are cleaned.
    """
    data, is_on, frames = config.data, config.cleaning.enabled, frames or Frames()
    cleaning, reading = _rules_of(config), Reading.of(config.data)
    if not is_on or not (frames.events is not None or _is_table(config)):
        dataset = read_all(
            data.path if frames.events is None else frames.events,
            data.format,
            reading,
            items=(data.items or None) if frames.items is None else frames.items,
            users=(data.users or None) if frames.users is None else frames.users,
            progress=progress,
        )
        if not is_on:
            return dataset, None
        return clean_dataset(dataset, cleaning, items=item_ids, progress=progress)
    sources = _tables_of(config, frames)
    tables = reading.tables(sources.items, sources.users)
    events, report = clean_events(
        sources.events,
        cleaning,
        items=item_ids if tables.items is None else tables.items["item_id"],
        progress=progress,
        **reading.of_events,
    )
    path = Path(data.path).resolve()
    name = path.name if path.is_dir() else path.stem
    name = "frame" if frames.events is not None else name
    return with_lists(tables.into(Dataset(name, events)), reading.lists), report


def save_report(report: CleaningReport, path: Path) -> None:
    """Write the report as JSON, and as text with the ending .txt."""
    path.write_text(report.to_json(), encoding="utf-8")
    path.with_suffix(".txt").write_text(str(report), encoding="utf-8")


def _rules_of(config: Config) -> CleaningConfig:
    if config.data.allow_future and not config.cleaning.latest:
        return replace(config.cleaning, latest="9999-12-31")
    return config.cleaning


def _is_table(config: Config) -> bool:
    path, named = Path(config.data.path), config.data.format
    if config.data.path in DATASETS:
        return False
    return (detect_format(path) if named == "auto" and path.exists() else named) in (
        "auto",
        "events",
    )


def _tables_of(config: Config, frames: Frames) -> _Tables:
    """Give the tables to read: frames, else those of ``[data]``."""
    data, path = config.data, Path(config.data.path)
    tables: dict[str, TableSource | None] = {"events": path, "items": None, "users": None}
    if frames.events is None and path.is_dir() and not is_folder_of_parts(path):
        tables = {name: table_in(path, name) for name in tables}
    tables |= {"items": data.items} if data.items else {}
    tables |= {"users": data.users} if data.users else {}
    given = {name: getattr(frames, name) for name in tables}
    tables |= {name: table for name, table in given.items() if table is not None}
    if tables["events"] is None:
        raise DataError(f"data.path: {path} has no events table, expected events.csv or the like")
    return _Tables(tables["events"], tables["items"], tables["users"])
