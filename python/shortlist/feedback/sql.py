"""The feedback log's rows in a database server, through SQLAlchemy: PostgreSQL, for many hosts.

Ids are kept as text and read back as the log's type. Writers take turns by a lock of the table, as
they do in SQLite: else a row with a lower `sequence` could become visible after one with a higher
one, and whoever reads what is new would miss it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from shortlist._forks import inside, tell_of_forks
from shortlist.errors import ShortlistError
from shortlist.feedback.sqlite import FORMAT, Row

_PER_STATEMENT = 1_000
_MAKING = 5_807_391_442  # a number of our own among the database's advisory locks


class SqlStore:
    """Rows in the tables `shortlist_about` and `shortlist_events` of a database.

    Parameters
    ----------
    url : str
        Of SQLAlchemy, such as ``postgresql+psycopg://user:password@host/database``. The tables
        are made if they are not there.
    """

    def __init__(self, url: str) -> None:
        try:
            import sqlalchemy as sa
        except ModuleNotFoundError as error:
            raise ShortlistError(
                "feedback log: a database URL needs SQLAlchemy, which is not installed; install "
                "it with: pip install 'shortlist[postgres]'"
            ) from error
        self._sa = sa
        self._is_closed = False
        self._fixed: dict[str, str] = {}
        self._owner = os.getpid()
        try:
            self._engine = sa.create_engine(url, insertmanyvalues_page_size=_PER_STATEMENT)
        except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
            raise ShortlistError(
                f"feedback log: expected a database URL such as postgresql+psycopg://user@host/db, "
                f"found: {error}"
            ) from error
        self.name = self._engine.url.render_as_string(hide_password=True)
        self._about, self._events = _tables(sa)
        tell_of_forks(self)
        self._check_format()

    def before_fork(self) -> None:
        """Close what the pool has; nobody is inside."""
        if self._owner == os.getpid():
            self._engine.dispose()

    def after_fork(self) -> None:
        """Begin anew in a forked child, which must not talk over its parent's connections."""
        self._engine.dispose(close=False)
        self._owner = os.getpid()

    def types(self) -> dict[str, str]:
        """Return the types of `user_id` and `item_id`, as far as an event has fixed them."""
        with self._reading() as connection:
            return self._known_types(connection)

    def append(self, rows: Sequence[Row], types: dict[str, str]) -> int | None:
        """Write checked rows, all or none; None if another writer fixed other types meanwhile."""
        if not rows:
            return 0
        names = [column.name for column in self._events.columns][1:]
        records = [dict(zip(names, _as_text(row), strict=True)) for row in rows]
        with self._writing() as connection:
            if {**types, **self._known_types(connection)} != types:
                return None
            kinds = [{"name": name, "value": value} for name, value in types.items()]
            connection.execute(self._insert(self._about).on_conflict_do_nothing(), kinds)
            insert = self._insert(self._events).on_conflict_do_nothing(index_elements=["key"])
            done = connection.execute(insert.returning(self._events.c.sequence), records)
            return len(done.all())

    def read(
        self, after: int, since: int | None, limit: int | None = None, impressions: bool = True
    ) -> list[Row]:
        """Return rows with a higher sequence, of this time or later, in the order of writing."""
        events = self._events
        query = self._sa.select(events).where(events.c.sequence > after)
        if since is not None:
            query = query.where(events.c.timestamp >= since)
        if not impressions:
            query = query.where(events.c.kind != self._sa.literal_column("'impression'"))
        query = query.order_by(events.c.sequence).limit(limit)
        with self._reading() as connection:
            rows = connection.execute(query).all()
            types = self._known_types(connection)
        user, item = (_reader(types.get(name)) for name in ("user_id", "item_id"))
        return [(row[0], user(row[1]), item(row[2]), *row[3:]) for row in rows]

    def acts(self, user_ids: Sequence[Any]) -> list[Row]:
        """Return (user_id, item_id, kind, timestamp, value) of users, each one's in time order."""
        c = self._events.c
        query = self._sa.select(c.user_id, c.item_id, c.kind, c.timestamp, c.value)
        query = query.where(c.user_id.in_([str(user_id) for user_id in user_ids]))
        query = query.where(c.kind != self._sa.literal_column("'impression'"))
        query = query.order_by(c.user_id, c.timestamp, c.sequence)
        with self._reading() as connection:
            rows = connection.execute(query).all()
            types = self._known_types(connection)
        user, item = (_reader(types.get(name)) for name in ("user_id", "item_id"))
        return [(user(row[0]), item(row[1]), *row[2:]) for row in rows]

    def erase(self, user_id: Any) -> int:
        """Delete a user's rows; return how many. Their bytes are the server's to free."""
        return self._delete(self._events.c.user_id == str(user_id))

    def remove_before(self, seconds: int) -> int:
        """Delete rows of an earlier time; return how many."""
        return self._delete(self._events.c.timestamp < seconds)

    def count(self) -> int:
        """Return the number of rows."""
        query = self._sa.select(self._sa.func.count()).select_from(self._events)
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

    def close(self) -> None:
        """Let go of the connections."""
        self._is_closed = True
        self._engine.dispose(close=self._owner == os.getpid())

    def _check_format(self) -> None:
        try:
            with self._reading() as connection:
                if self._engine.dialect.name == "postgresql":  # one makes the tables
                    connection.execute(self._sa.text(f"SELECT pg_advisory_xact_lock({_MAKING})"))
                self._about.metadata.create_all(connection)
                record = {"name": "format", "value": str(FORMAT)}
                connection.execute(self._insert(self._about).on_conflict_do_nothing(), [record])
                query = self._sa.select(self._about.c.value).where(self._about.c.name == "format")
                known = connection.execute(query).scalar_one()
            if known != str(FORMAT):
                raise ShortlistError(
                    f"{self.name}: expected a feedback log of format {FORMAT}, found format "
                    f"{known}; it was written by another release of shortlist"
                )
        except BaseException:
            self.close()
            raise

    def _delete(self, condition: Any) -> int:
        with self._writing() as connection:
            return int(connection.execute(self._events.delete().where(condition)).rowcount)

    def _known_types(self, connection: Any) -> dict[str, str]:
        query = self._sa.select(self._about.c.name, self._about.c.value)
        if len(self._fixed) < 2:  # once fixed they never change
            rows = connection.execute(query).all()
            self._fixed = {name: value for name, value in rows if name != "format"}
        return dict(self._fixed)

    def _insert(self, table: Any) -> Any:
        if self._engine.dialect.name == "sqlite":
            from sqlalchemy.dialects.sqlite import insert
        else:
            from sqlalchemy.dialects.postgresql import insert
        return insert(table)

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        """Give a connection and its transaction; errors name the database."""
        if self._is_closed:
            raise ShortlistError("feedback log: it is closed; open it again")
        try:
            with inside(), self._engine.begin() as connection:
                yield connection
        except self._sa.exc.SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise ShortlistError(
                f"{self.name}: expected a feedback log that can be read and written, found: {cause}"
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        with self._reading() as connection:
            if self._engine.dialect.name == "postgresql":
                lock = f"LOCK TABLE {self._events.name} IN SHARE ROW EXCLUSIVE MODE"
                connection.execute(self._sa.text(lock))
            yield connection


def _tables(sa: Any) -> tuple[Any, Any]:
    metadata = sa.MetaData()
    about = sa.Table(
        "shortlist_about",
        metadata,
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    whole = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    events = sa.Table(
        "shortlist_events",
        metadata,
        sa.Column("sequence", whole, primary_key=True, autoincrement=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("key", sa.Text, unique=True),
        sa.Column("rank", sa.Integer),
        sa.Column("bundle", sa.Text),
        sa.Column("score", sa.Double),
        sa.Column("propensity", sa.Double),
        sqlite_autoincrement=True,
    )
    is_act = sa.text("kind <> 'impression'")
    sa.Index(
        "shortlist_acts_of_user",
        events.c.user_id,
        events.c.timestamp,
        postgresql_where=is_act,
        sqlite_where=is_act,
    )
    return about, events


def _as_text(row: Row) -> Row:
    return (str(row[0]), str(row[1]), *row[2:])


def _reader(dtype: str | None) -> Any:
    return str if dtype == "string" else int
