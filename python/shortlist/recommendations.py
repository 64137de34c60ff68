"""What is found: by a search, and for a batch of requests with sources, and titles for people."""

from __future__ import annotations

import html
import importlib
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shortlist._checks import printable
from shortlist.errors import ShortlistError

# In rising order of how personal an answer is; a row's code is its place in this tuple.
SOURCES = ("popular", "features", "stored history", "history", "item")
POPULAR, FEATURES, STORED_HISTORY, HISTORY, ITEM = range(5)
_SOURCE_NAMES = np.array(SOURCES)
_SHOWN_REQUESTS = 5
_SHOWN_ITEMS = 10


class Hits(NamedTuple):
    """The result of one search: score descending, then the lower item row first.

    Attributes
    ----------
    item_ids : ndarray of shape (n_queries, top_n), int64 or object (str)
        Ids of the items; missing places hold -1 or "".
    scores : ndarray of shape (n_queries, top_n), float32
        Similarities, bigger is closer; missing places hold -inf.
    counts : ndarray of shape (n_queries,), int64
        How many places of each row are real.
    indices : ndarray of shape (n_queries, top_n), int64
        Item rows; missing places hold -1.
    """

    item_ids: NDArray[Any]
    scores: NDArray[np.float32]
    counts: NDArray[np.int64]
    indices: NDArray[np.int64]


class VariedHits(Hits):
    """The result of a search with `at_least`.

    Attributes
    ----------
    unmet : dict of ndarray (n_queries,), int64
        How many items each list lacks of what `at_least` wants, by name.
    """

    unmet: dict[str, NDArray[np.int64]]


class Titles(Protocol):
    """Where titles come from: an item table, or several."""

    def titles(self, rows: Any) -> NDArray[np.object_]:
        """Return titles of item rows (n_requests, top_n)."""


class Asked(Protocol):
    """What was asked: the ids of the requests."""

    @property
    def user_ids(self) -> NDArray[np.object_]:
        """User ids (n_requests,), None where a request has none."""

    @property
    def n_given(self) -> NDArray[np.int64]:
        """How many ids each request has (n_requests,)."""

    @property
    def n_known(self) -> NDArray[np.int64]:
        """How many of them are known (n_requests,)."""


class _KnownAsked(NamedTuple):
    """What was looked up before."""

    user_ids: NDArray[np.object_]
    n_given: NDArray[np.int64]
    n_known: NDArray[np.int64]


class Unmet(NamedTuple):
    """What lists lack of the quotas that were asked for (`at_least`).

    Attributes
    ----------
    names : tuple of str
    missing : ndarray of shape (n_requests, n_names), int64
    """

    names: tuple[str, ...]
    missing: NDArray[np.int64]


class _KnownTitles:
    """Titles that were looked up before: those of one answer."""

    def __init__(self, known: NDArray[np.object_]) -> None:
        self.known = known

    def titles(self, _: Any) -> NDArray[np.object_]:
        """Return them."""
        return self.known


@dataclass(eq=False, repr=False, slots=True)
class Recommendations:
    """The top-N of every request: score descending, ties by the lower item row.

    With `diversity` items are in the order in which they were chosen.

    ``len``, ``recs[0]`` and a loop go over requests: each is a `Recommendation`.

    Attributes
    ----------
    item_ids : ndarray of shape (n_requests, top_n), int64 or str
        Missing places hold -1 or "".
    scores : ndarray of shape (n_requests, top_n), float32
        Similarity under the bundle's metric where `stages` is 1, the scorer's score where it is 2,
        the number of events where it is 0; missing places hold -inf.
    counts : ndarray of shape (n_requests,), int64
        How many places of each row are real.
    source : ndarray of shape (n_requests,), str
        What an answer was made from: "history" (of the request), "stored history" (of a known
        user), "features" (of the user), "popular" (nothing known: most events first), or "item"
        (`Engine.similar`).
    stages : ndarray of shape (n_requests,), int8
        How many stages made an answer: 0 (the popular list), 1 (nearest items), 2 (those, in the
        order of the scorer).
    indices : ndarray of shape (n_requests, top_n), int64
        Item rows; missing places hold -1.
    version : ndarray of shape (n_requests,), int64
        Which version of the engine answered: 1, and one more with every `Engine.swap` and
        `Engine.start_trial`.
    propensities : ndarray of shape (n_requests, top_n), float64, or None
        With exploration: the probability of each item at its place, given the items above it; the
        order is as drawn then, and scores need not fall. Missing places hold 0.
    unmet : list of dict
        How many items each list lacks of what `at_least` asks for, by name: {} where nothing.
    user_ids : ndarray of shape (n_requests,), object
        The request's `user_id`, int or str; None where it had none.
    n_given : ndarray of shape (n_requests,), int64
        How many ids the request had: entries of its own `history`, and 1 for a `user_id`.
    n_known : ndarray of shape (n_requests,), int64
        How many of these ids the bundle knows: items that it came with (its encoder knows no
        others), and users that it stores. What a feedback log knows does not count.

    Notes
    -----
    `titles` and `n_known` are looked up when they are first asked for, so that they cost an answer
    nothing; one that is pickled or copied has both with it. Until then an answer keeps the bundle
    that made it in memory.
    """

    item_ids: NDArray[Any]
    scores: NDArray[np.float32]
    counts: NDArray[np.int64]
    indices: NDArray[np.int64]
    _source_codes: NDArray[np.int64]
    stages: NDArray[np.int8]
    _items: Titles
    _asked: Asked
    _version: int | NDArray[np.int64] = 1
    propensities: NDArray[np.float64] | None = None
    _unmet: Unmet | None = None

    @property
    def unmet(self) -> list[dict[str, int]]:
        """How many items each list lacks of a quota, by name."""
        if self._unmet is None:
            return [{} for _ in range(len(self))]
        names, missing = self._unmet
        return [
            {name: n for name, n in zip(names, row, strict=True) if n} for row in missing.tolist()
        ]

    @property
    def version(self) -> NDArray[np.int64]:
        """Which version of the engine answered each request, shape (n_requests,)."""
        return np.full(len(self.counts), self._version, dtype=np.int64)

    @property
    def source(self) -> NDArray[np.str_]:
        """What each answer was made from, shape (n_requests,)."""
        return _SOURCE_NAMES[self._source_codes]

    @property
    def user_ids(self) -> NDArray[np.object_]:
        """User id of each request, None where it had none, shape (n_requests,)."""
        return self._asked.user_ids.copy()

    @property
    def n_given(self) -> NDArray[np.int64]:
        """How many ids each request had, shape (n_requests,)."""
        return self._asked.n_given

    @property
    def n_known(self) -> NDArray[np.int64]:
        """How many of them the bundle knows, shape (n_requests,)."""
        return self._known_ids().n_known.copy()

    @property
    def titles(self) -> NDArray[np.object_]:
        """Titles (n_requests, top_n), str: None where an item has none, "" at missing places."""
        return self._known_titles().copy()

    def _known_titles(self) -> NDArray[np.object_]:
        if not isinstance(self._items, _KnownTitles):
            self._items = _KnownTitles(self._items.titles(self.indices))
        return self._items.known

    def _known_ids(self) -> _KnownAsked:
        if not isinstance(self._asked, _KnownAsked):
            asked = self._asked
            self._asked = _KnownAsked(asked.user_ids, asked.n_given, asked.n_known)
        return self._asked

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled or copied: all of it, with the titles instead of their table."""
        self._known_titles(), self._known_ids()
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what `__getstate__` gave."""
        for name, value in state.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.counts)

    def __getitem__(self, request: int) -> Recommendation:
        """Return the answer to one request, by its number; -1 is the last."""
        n = len(self)
        number = operator.index(request)
        if not -n <= number < n:
            raise IndexError(f"got request {number}, expected one of {n}, counted from 0")
        return Recommendation(self, number % n)

    def __iter__(self) -> Iterator[Recommendation]:
        """Go over the answers, request by request."""
        return (Recommendation(self, row) for row in range(len(self)))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one plain dict a request, ready for `json.dumps`; missing places are left out.

        Returns
        -------
        list of dict
            `user_id` (if the request had one), `source`, `stages`, `n_given`, `n_known`, `unmet`
            (if anything is), and `items`, a list of `item_id`, `score` and, if the item has one,
            `title`.
        """
        answers = []
        for one in self:
            items = []
            for item_id, score, title in one.places():
                item = {"item_id": item_id, "score": score}
                items.append(item if title is None else {**item, "title": title})
            who = {} if one.user_id is None else {"user_id": one.user_id}
            made = {"source": one.source, "stages": one.stages}
            known = {"n_given": one.n_given, "n_known": one.n_known}
            lacks = {"unmet": one.unmet} if one.unmet else {}
            answers.append({**who, **made, **known, **lacks, "items": items})
        return answers

    def to_arrow(self) -> Any:
        """Return a pyarrow Table with one row for each recommended item.

        Returns
        -------
        pyarrow.Table
            `request` (its number), `user_id` (if any request had one), `rank` (from 1), `item_id`,
            `score`, `title` (null where an item has none), `source`, `stages`, and with
            exploration `propensity`. Missing places are left out.

        Raises
        ------
        ShortlistError
            pyarrow is not installed.
        """
        pa = need("pyarrow", "shortlist[cpu]")
        is_real = np.arange(self.item_ids.shape[1]) < self.counts[:, None]
        requests, places = np.nonzero(is_real)
        user_ids = self.user_ids
        id_type = pa.string() if self.item_ids.dtype.kind == "O" else pa.int64()
        columns = {
            "request": pa.array(requests),
            "user_id": pa.array(user_ids.tolist()).take(pa.array(requests)),
            "rank": pa.array(places + 1),
            "item_id": pa.array(self.item_ids[is_real].tolist(), id_type),
            "score": pa.array(self.scores[is_real]),
            "title": pa.array(self._known_titles()[is_real].tolist(), pa.string()),
            "source": pa.array(self.source[requests].tolist(), pa.string()),
            "stages": pa.array(self.stages[requests]),
        }
        if not any(user_id is not None for user_id in user_ids):
            del columns["user_id"]
        if self.propensities is not None:
            columns["propensity"] = pa.array(self.propensities[is_real])
        return pa.table(columns)

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with the rows and columns of `to_arrow`."""
        need("pandas", "pandas")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """Return a polars DataFrame with the rows and columns of `to_arrow`."""
        return need("polars", "polars").from_arrow(self.to_arrow())

    def to_text(self, n_requests: int | None = None, n_items: int | None = None) -> str:
        """Return a table for people.

        Parameters
        ----------
        n_requests, n_items : int, optional
            Show no more requests, and no more items of each; all by default.
        """
        n, top_n = self.item_ids.shape
        lines = [f"{n} request{'s' * (n != 1)}, top {top_n}"]
        for one in islice(self, n_requests):
            lines += one._lines(n_items)
        if n_requests is not None and n > n_requests:
            lines.append(f"… {n - n_requests} more requests")
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Show the first answers as a table."""
        return self.to_text(_SHOWN_REQUESTS, _SHOWN_ITEMS)

    def _repr_html_(self) -> str:
        """Show the first answers as a table in a notebook."""
        n, top_n = self.item_ids.shape
        lines = [f"<p>{n} request{'s' * (n != 1)}, top {top_n}</p>", "<table>"]
        lines.append(_html_row("th", ["request", "from", "rank", "item", "title", "score"]))
        for one in islice(self, _SHOWN_REQUESTS):
            who = [one.name, one.source]
            for rank, place in enumerate(one.places()[:_SHOWN_ITEMS], start=1):
                item_id, score, title = place
                lines.append(_html_row("td", [*who, rank, item_id, title or "", f"{score:.4f}"]))
                who = ["", ""]
            if not len(one):
                lines.append(_html_row("td", [*who, "", "", "no items", ""]))
        return "\n".join([*lines, "</table>"])


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Recommendation:
    """The answer to one request: what `Recommendations` has of it, without missing places.

    Attributes
    ----------
    request : int
        Its number, from 0.
    """

    _all: Recommendations
    request: int

    @property
    def user_id(self) -> Any:
        """The request's user id, None if it had none."""
        return self._all._asked.user_ids[self.request]

    @property
    def item_ids(self) -> NDArray[Any]:
        """Item ids, best first, shape (count,), int64 or str."""
        return self._real(self._all.item_ids)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Their scores, shape (count,)."""
        return self._real(self._all.scores)

    @property
    def titles(self) -> NDArray[np.object_]:
        """Their titles, shape (count,), None where an item has none."""
        return self._real(self._all._known_titles())

    @property
    def propensities(self) -> NDArray[np.float64] | None:
        """With exploration: the probability of each at its place, shape (count,)."""
        propensities = self._all.propensities
        return None if propensities is None else self._real(propensities)

    @property
    def source(self) -> str:
        """What it was made from."""
        return SOURCES[self._all._source_codes[self.request]]

    @property
    def stages(self) -> int:
        """How many stages made it."""
        return int(self._all.stages[self.request])

    @property
    def version(self) -> int:
        """Which version of the engine answered."""
        return int(self._all.version[self.request])

    @property
    def unmet(self) -> dict[str, int]:
        """How many items the list lacks of a quota, by name."""
        return self._all.unmet[self.request]

    @property
    def n_given(self) -> int:
        """How many ids the request had."""
        return int(self._all._known_ids().n_given[self.request])

    @property
    def n_known(self) -> int:
        """How many of them the bundle knows."""
        return int(self._all._known_ids().n_known[self.request])

    @property
    def name(self) -> str:
        """The request's number, and its user if it has one."""
        user = "" if self.user_id is None else f", user {printable(str(self.user_id))}"
        return f"request {self.request}{user}"

    def _real(self, values: NDArray[Any]) -> NDArray[Any]:
        return values[self.request, : self._all.counts[self.request]]

    def places(self) -> list[tuple[Any, float, str | None]]:
        """Return id, score and title of each item."""
        columns = (self.item_ids, self.scores, self.titles)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def __len__(self) -> int:
        """Return the number of items."""
        return int(self._all.counts[self.request])

    def __repr__(self) -> str:
        """Show the first items as a table."""
        return "\n".join(self._lines(_SHOWN_ITEMS))

    def _lines(self, n_items: int | None) -> list[str]:
        places = self.places()
        lines = [f"{self.name}, from {self.source}: {len(places)} items"]
        lines += [f"  unmet: {n} fewer than asked of {name}" for name, n in self.unmet.items()]
        for rank, (item_id, score, title) in enumerate(places[:n_items], start=1):
            shown, name = printable(str(item_id)), printable(title or "")
            lines.append(f"  {rank:>3}  {score:>9.4f}  {shown:>10}  {name}".rstrip())
        if n_items is not None and len(places) > n_items:
            lines.append(f"       … {len(places) - n_items} more")
        return lines


def _html_row(tag: str, cells: list[Any]) -> str:
    inside = "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)
    return f"<tr>{inside}</tr>"


def need(package: str, install: str) -> Any:
    """Import a package that answers can be given to, or say how to get it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ShortlistError(
            f"recommendations: this needs the package {package}, which is not installed; install "
            f"it with: pip install '{install}'"
        ) from error
