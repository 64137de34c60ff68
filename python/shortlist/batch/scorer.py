"""One Arrow function for every engine: a record batch of requests in, one of answers out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from shortlist import _checks
from shortlist._columns.reading import decoded
from shortlist._columns.requests import RequestSchema
from shortlist._serving.loaded_bundle import request_schema
from shortlist.batch.layout import output_schema, rows_of
from shortlist.batch.options import ScoreOptions
from shortlist.batch.remote import address_of, check_identity, identity_of, local_bundle
from shortlist.bundle import Bundle
from shortlist.engine import Engine
from shortlist.errors import DataError
from shortlist.loading import DEVICES, load
from shortlist.recommendations import Recommendations, need

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Scorer:
    """Turns record batches of requests into record batches of answers; `scorer` makes one.

    It can be pickled: another process opens the bundle again, from its path, at its first batch.
    All scorers of a process share it. Several threads may call it at once.

    Attributes
    ----------
    bundle : str
        Absolute path, or address in an object store.
    identity : str
        sha256 of the bundle's manifest, which holds those of its files.
    options : ScoreOptions
    columns : RequestSchema
        Columns of requests, and the types of ids.
    n_threads : int
    device : str
    """

    bundle: str
    identity: str
    options: ScoreOptions
    columns: RequestSchema
    n_threads: int = 1
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "cpu"

    def __call__(self, requests: pa.RecordBatch) -> pa.RecordBatch:
        """Answer a batch.

        Parameters
        ----------
        requests : pyarrow.RecordBatch or Table
            Columns as for `Engine.recommend`. `user_id` must be there: it names the answers.

        Returns
        -------
        pyarrow.RecordBatch
            The columns of `schema`, in the order of the requests. Its lists are those that
            `Engine.recommend` gives for the same requests.

        Raises
        ------
        TypeError, DataError, ValueError, ShortlistError
            As `Engine.recommend`; there is no column `user_id`.
        BundleError
            The bundle is damaged, or another one than when the scorer was made.
        """
        return self.rows(requests, self.answer(requests))

    def over(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Answer batch after batch: what Spark's `DataFrame.mapInArrow` takes."""
        return map(self, batches)

    @property
    def schema(self) -> pa.Schema:
        """The columns of an answer, known before the bundle is open."""
        item_id, user_id = self.columns.history_dtype or "int64", self.columns.id_dtype
        return output_schema(item_id, user_id, self.options.layout, titles=self.options.titles)

    @property
    def engine(self) -> Engine:
        """The open bundle of this process."""
        path = local_bundle(self.bundle, self.identity)
        return _engine(path, self.identity, self.device, self.n_threads, os.getpid())

    def answer(self, requests: Any) -> Recommendations:
        """Answer requests without laying them out."""
        return self.engine.recommend(requests, **self.options.of_call())

    def rows(self, requests: pa.RecordBatch, answer: Recommendations) -> pa.RecordBatch:
        """Lay out what `answer` gave for a batch."""
        return rows_of(_user_ids(requests), answer, self.engine.items, self.schema)

    def check(self) -> None:
        """Open the bundle, and refuse options that do not fit it, before there are requests.

        Raises
        ------
        TypeError, ValueError, DataError, ShortlistError
            As `Engine.recommend`; or `where` and `exclude` leave no item.
        BundleError
            As a call.
        """
        unknown: dict[str, Any] = {name: [None] for name in self.columns.column_names}
        answer, options = self.engine.recommend(unknown, **self.options.of_call()), self.options
        filters = {"where": options.where, "exclude": options.exclude}
        given = {name: value for name, value in filters.items() if value is not None}
        if given and answer.counts[0] == 0:  # an unknown user gets what is popular among the rest
            said = " and ".join(f"{str(value)!r:.200}" for value in given.values())
            raise DataError(
                f"{', '.join(given)}: got {said}, which leaves none of the "
                f"{len(self.engine.items):,} items, so that every list would be empty; expected "
                "one item at least. Fix: correct the condition, or leave it out"
            )

    def check_untouched(self) -> None:
        """Refuse a bundle that is no longer the one that this process has open.

        Raises
        ------
        BundleError
            Its files were written over, or another bundle lies at its path.
        """
        path = local_bundle(self.bundle, self.identity)
        self.engine._switch.loaded.check_untouched(path)
        with Bundle.hold(path) as now:
            check_identity(now.path, identity_of(now), self.identity)


def scorer(
    bundle: str | os.PathLike[str],
    *,
    top_n: int = 10,
    where: Any = None,
    stages: Literal[1, 2] | None = None,
    exclude_seen: Any = True,
    exclude: Any = None,
    at_most: Any = None,
    at_least: Any = None,
    diversity: float | None = None,
    calibrate: Any = None,
    popularity_dampening: float | None = None,
    layout: Literal["long", "lists"] = "long",
    titles: bool = False,
    n_threads: int = 1,
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "cpu",
) -> Scorer:
    """Make the function that every engine of batch scoring calls.

    Parameters
    ----------
    bundle : str or path
        A `NAME.shortlist` folder or zip, where every worker finds it: a path, or an address that
        pyarrow reads ("s3://models/shop.shortlist"), which each machine copies to its cache once.
    top_n, where, stages, exclude_seen, exclude, at_most, at_least, diversity, calibrate,
    popularity_dampening
        As for `Engine.recommend`, the same for all requests.
    layout : {"long", "lists"}
        "long": a row an item, `user_id, rank, item_id, score, source`. "lists": a row a request,
        `user_id, item_ids, scores, source`.
    titles : bool
        Add a column `title` or `titles`.
    n_threads : int
        Threads of one call: 1 where a process runs on every core.
    device : {"auto", "cpu", "cuda", "tensorrt"}
        As for `shortlist.load`.

    Returns
    -------
    Scorer
        Callable: a `pyarrow.RecordBatch` of requests in, one of answers out.

    Raises
    ------
    TypeError, ValueError
        An option is no such value.
    BundleError
        There is no bundle.
    ShortlistError
        pyarrow is not installed.

    Examples
    --------
    >>> import pyarrow as pa
    >>> import shortlist
    >>> score = shortlist.batch.scorer(shortlist.datasets.example_bundle(), top_n=2)
    >>> rows = score(pa.record_batch({"user_id": ["ada"]}))
    >>> rows.schema.names
    ['user_id', 'rank', 'item_id', 'score', 'source']
    >>> rows["rank"].to_pylist()
    [1, 2]
    """
    need("pyarrow", "shortlist[cpu]")
    if device not in DEVICES:
        raise ValueError(f"device: got {device!r}, expected one of {', '.join(DEVICES)}")
    options = ScoreOptions(
        top_n,
        where,
        stages,
        exclude_seen,
        exclude,
        at_most,
        at_least,
        diversity,
        calibrate,
        popularity_dampening,
        layout,
        titles,
    )
    return scorer_of(bundle, options, _checks.thread_count(n_threads), device)


def scorer_of(
    bundle: str | os.PathLike[str],
    options: ScoreOptions,
    n_threads: int = 1,
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "cpu",
) -> Scorer:
    """Make a scorer from checked options: only the bundle's manifest is read."""
    if not isinstance(bundle, (str, os.PathLike)):
        raise TypeError(f"bundle: got {type(bundle).__name__}, expected a str or path")
    path = address_of(bundle)
    with Bundle.hold(local_bundle(path)) as opened:
        identity = identity_of(opened)
        columns = request_schema(opened)
    if not isinstance(options.exclude_seen, bool):
        columns = columns.with_kinds()
    return Scorer(path, identity, options, columns, n_threads, device)


@lru_cache(maxsize=2)
def _engine(
    path: str,
    identity: str,
    device: Literal["auto", "cpu", "cuda", "tensorrt"],
    n_threads: int,
    process: int,
) -> Engine:
    """Open a bundle once a process; a forked child opens it again."""
    engine = load(path, device, n_threads)
    try:
        check_identity(engine.bundle.path, identity_of(engine.bundle), identity)
    except BaseException:
        engine.close()
        raise
    return engine


def _user_ids(requests: Any) -> pa.Array:
    import pyarrow as pa

    names = requests.schema.names
    if "user_id" not in names:
        raise DataError(
            f"requests: no column 'user_id' among {', '.join(names) or 'none'}; expected one: it "
            "names the answers. Fix: add it; any id of the bundle's type will do"
        )
    column = decoded(requests.column(names.index("user_id")))
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
