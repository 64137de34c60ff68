"""How tables are read: one value that the settings, the flags and Python give to every reader."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypedDict

from shortlist.errors import DataError
from shortlist.training.data.entities import ID_COLUMNS, entities_from_table
from shortlist.training.data.events import Dataset, read_events
from shortlist.training.data.tables import TableSource, read_table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import polars as pl

_SIDES = {"event": "events", "item": "items", "user": "users"}


class EventOptions(TypedDict):
    """Options of `events.read_events` and of cleaning that say how a table of events is read."""

    columns: Mapping[str, str]
    ignore: tuple[str, ...]
    time_unit: str
    time_format: str


@dataclass(frozen=True)
class Reading:
    """How the tables of events, items and users are read.

    Attributes
    ----------
    columns, item_columns, user_columns : mapping of str to str
        Of the events, the item and the user table: our column → its name in the table.
    lists : mapping of str to str
        Text columns of items and users that hold several values → their separator.
    ignore : sequence of str
        Columns that are not read: ``"item.NAME"``, ``"user.NAME"``, ``"event.NAME"``.
    time_unit, time_format, allow_future, duplicates
        As for `events.read_events`.
    declared : collection of str
        Names in ``[data.features]``: they are kept also where they look like row numbers.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    item_columns: Mapping[str, str] = field(default_factory=dict)
    user_columns: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    time_unit: str = "auto"
    time_format: str = ""
    allow_future: bool = False
    duplicates: str = "drop"
    declared: Collection[str] = ()

    def __post_init__(self) -> None:
        """Refuse a column to ignore that is of no table."""
        for name in self.ignore:
            side, dot, column = name.partition(".")
            if side not in _SIDES or not (dot and column):
                raise DataError(
                    f"ignore: got {name!r}, expected item.NAME, user.NAME or event.NAME. Fix: say "
                    f"whose column it is, e.g. item.{name} (--ignore item.{name})"
                )

    @classmethod
    def of(cls, data: Any) -> Reading:
        """Return what the section ``[data]`` of the settings says."""
        names = {item.name for item in fields(cls)} - {"duplicates", "declared"}
        return cls(**{name: getattr(data, name) for name in names}, declared=tuple(data.features))

    def ignored(self, side: str) -> tuple[str, ...]:
        """Name the columns of the events ("event"), items or users that are not read."""
        own = f"{side}."
        return tuple(name.removeprefix(own) for name in self.ignore if name.startswith(own))

    @property
    def of_events(self) -> EventOptions:
        """What every reader of events takes, in memory or streaming."""
        return {
            "columns": self.columns,
            "ignore": self.ignored("event"),
            "time_unit": self.time_unit,
            "time_format": self.time_format,
        }

    def events(self, source: TableSource) -> pl.DataFrame:
        """Read a table of events."""
        return read_events(
            source,
            allow_future=self.allow_future,
            duplicates=self.duplicates,
            **self.of_events,
        )

    def entities(self, side: str, source: TableSource) -> tuple[pl.DataFrame, bool]:
        """Read an item or user table; also say whether it is text, whose values were typed here."""
        columns = {"item": self.item_columns, "user": self.user_columns}[side]
        table = read_table(source, columns=columns, ignore=self.ignored(side), what=_SIDES[side])
        lists = {name: by for name, by in self.lists.items() if name in table.columns}
        declared = [name.removeprefix(f"{side}.") for name in self.declared]
        frame = entities_from_table(table, ID_COLUMNS[_SIDES[side]], lists=lists, declared=declared)
        return frame, table.is_text

    def tables(self, items: TableSource | None, users: TableSource | None) -> Tables:
        """Read the item and the user table, where there is one."""
        for side, source in (("item", items), ("user", users)):
            named = getattr(self, f"{side}_columns")
            if source is None and named:
                raise DataError(
                    f"{side}_columns: got {dict(named)}, but no {side} table. Fix: give it with "
                    f"{side}s (--{side}s), or leave --{side}-column out"
                )
        read = {
            _SIDES[side]: self.entities(side, source)
            for side, source in (("item", items), ("user", users))
            if source is not None
        }
        frames = {name: frame for name, (frame, _) in read.items()}
        texts = frozenset(name for name, (_, is_text) in read.items() if is_text)
        return Tables(frames.get("items"), frames.get("users"), texts)


@dataclass(frozen=True)
class Tables:
    """Item and user tables as they were read; ``from_text`` names those of text files."""

    items: pl.DataFrame | None
    users: pl.DataFrame | None
    from_text: frozenset[str]

    def into(self, dataset: Dataset) -> Dataset:
        """Put the tables there are into a dataset, in place of its own."""
        frames = {"items": self.items, "users": self.users}
        given = {name: frame for name, frame in frames.items() if frame is not None}
        texts = dataset.text_tables.difference(given) | self.from_text
        return replace(dataset, **given, text_tables=texts)  # type: ignore[arg-type]
