"""The engine: a loaded bundle that turns raw requests into exact top-N recommendations."""

import os
from collections.abc import Collection
from typing import Any, Literal, NoReturn, Self

from shortlist import _checks
from shortlist._catalogue.filters import read_filters
from shortlist._catalogue.state import Upserted
from shortlist._columns.reading import Array
from shortlist._columns.requests import normalise
from shortlist._columns.variety import read_wanted
from shortlist._serving import pipeline
from shortlist._serving.loaded_bundle import LoadedBundle, Settings
from shortlist._serving.loop import feedback_loop
from shortlist._serving.options import check_unknown, check_wanted
from shortlist._serving.questions import Questions
from shortlist._serving.reports import EngineReport, TrialReport
from shortlist._serving.switch import Switch
from shortlist._serving.trial import check_keys
from shortlist.bundle import Bundle
from shortlist.bundle.text import memory_of
from shortlist.exploration import Exploration
from shortlist.feedback import FeedbackLog
from shortlist.index import Index
from shortlist.recommendations import Recommendations

__all__ = ["Engine", "Recommendations", "Upserted"]


class Engine(Questions):
    """Answers requests from a loaded bundle; `shortlist.load` makes one.

    All methods may be called from several threads at once. Items are changed by `upsert_items`
    and `remove_items` alone, in memory: the bundle on disk stays as it is. `swap` puts another
    bundle in the place of this one.
    """

    def __init__(self, loaded: LoadedBundle, settings: Settings) -> None:
        self._switch = Switch(loaded, settings)
        self._settings = settings

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: sessions and mapped files belong to this process."""
        raise TypeError(
            f"Engine of {self.bundle.path}: an engine cannot be pickled or copied; give the "
            "bundle's path to the other process and load it there: shortlist.load(path)"
        )

    @property
    def bundle(self) -> Bundle:
        """The bundle that answers now."""
        return self._switch.loaded.bundle

    @property
    def index(self) -> Index:
        """The item embeddings; not to be changed directly."""
        return self._switch.loaded.index

    @property
    def item_id_dtype(self) -> str:
        """Type of item ids: "int64" or "string"."""
        return self._switch.loaded.item_id_dtype

    @property
    def user_id_dtype(self) -> str:
        """Type of user ids: "int64" or "string"."""
        return self._switch.loaded.user_id_dtype

    @property
    def items(self) -> Any:
        """The item table as a pyarrow Table; row r is the index's row r."""
        return self._switch.loaded.state.items.table

    @property
    def default_stages(self) -> int:
        """Stages that `recommend` runs by default: 2 if the bundle has a second one."""
        return 2 if self._switch.now().has_reranker else 1

    def recommend(
        self,
        requests: Any = None,
        top_n: int = 10,
        exclude_seen: bool | Collection[str] = True,
        where: Any = None,
        stages: Literal[1, 2] | None = None,
        keys: Any = None,
        *,
        user_ids: Any = None,
        exclude: Any = None,
        allow: Any = None,
        unknown: Literal["ignore", "error"] = "ignore",
        feedback: FeedbackLog | None = None,
        explore: Exploration | None = None,
        record: bool = False,
        now: Any = None,
        at_most: Any = None,
        at_least: Any = None,
        diversity: Any = None,
        calibrate: Any = None,
        popularity_dampening: Any = None,
    ) -> Recommendations:
        """Recommend the top-N items for every request.

        Parameters
        ----------
        requests : dict of columns, list of dicts, pandas or polars DataFrame, or pyarrow Table
            Columns: `history` (item ids, oldest first; unknown ones are skipped), `user_id`, and
            the bundle's user features; with declared event features `history_kinds` and
            `history_ages` (seconds before now), entry by entry. Each may be left out, or None.
        top_n : int
            Items a request; rows are shorter (`counts`) where fewer are allowed.
        exclude_seen : bool, or kinds of events
            Leave out the items of the request's history and of the user's stored history. With
            kinds, such as ``("purchase",)``, only those of such events, and of events whose kind
            neither the bundle, nor a column `history_kinds`, nor `feedback` tells.
        where : str, pyarrow or polars expression, or a list of them, optional
            Only items that satisfy it may come back: ``"year >= 1990 and genre = 'Drama'"``
            (`docs/serving.md` has the language).
        stages : {1, 2}, optional
            1: the exact nearest items of the embedding. 2: the nearest `n_candidates` (or `top_n`)
            items, put into a new order by the bundle's second stage. Default: `default_stages`.
        keys : array-like of shape (n_requests,), str or int, optional
            Trial key of each request (`start_trial`). None uses its `user_id`.
        user_ids : array-like of shape (n_requests,), ids, optional
            In place of `requests`: known users.
        exclude, allow : ids, list of id arrays, or (values, row_splits), optional
            Items that must not come back, and the only ones that may: one list (or set) of ids
            for all requests, or one for each. Unknown ids are ignored.
        unknown : {"ignore", "error"}
            What becomes of ids that the bundle does not know.
        feedback : FeedbackLog, optional
            Its events count as if they were in the history (`docs/feedback.md`).
        explore : Epsilon or Softmax, optional
            Draw answers from the best candidates; `Recommendations.propensities` says how likely.
        record : bool
            Write what is returned to the log as impressions, before returning it. Propensities are
            written where a request is a user id alone, under ``exclude_seen=True`` without filters.
        now : number, datetime or str, optional
            Time of the requests, which ages of events count from. Default: the clock.
        at_most : dict, or a list of dicts or None, one a request, optional
            So many items with the same value of a column of the item table: ``{"brand": 2}``.
        at_least : dict, or a list of dicts or None, one a request, optional
            So many items for which a column, or a condition as of `where`, is true:
            ``{"is_new": 2}``. `Recommendations.unmet` says what a list lacks.
        diversity : float, or one a request, optional
            From 0 to 1, the weight of being unlike the items chosen before.
        calibrate : dict, or a list of dicts or None, one a request, optional
            A distribution over a column's values that the list comes near to:
            ``{"genres": "history"}``, shares such as ``{"genres": {"War": 0.5, "Drama": 0.5}}``, or
            either with a strength from 0 to 1: ``{"genres": ("history", 0.8)}``.
        popularity_dampening : float, or one a request, optional
            What is taken off a score times ln(1 + number of events of the item). Of these five,
            and what a second stage changes, `docs/variety.md` tells more.

        Returns
        -------
        Recommendations
            A request is answered from its own history, else from that of a known user, else from
            user features, else with the items of most events; `source` says which.

        Raises
        ------
        TypeError, DataError
            A request is not as described, the message names column and row; `where`, `at_most`,
            `at_least` or `calibrate` do not fit the item table; the log's ids are of another type;
            `record` is true and a request has no `user_id`; an id is unknown and `unknown` is
            "error".
        ValueError
            A number is out of range; a list has not one entry a request.
        ShortlistError
            `stages` is 2 and the bundle has no second stage.
        """
        loaded, trial = self._switch.now(), self._switch.trial  # for the whole call
        top_n = _checks.positive_int(top_n, "top_n")
        loop = feedback_loop(feedback, explore, record, now)
        requests = pipeline.given_requests(requests, user_ids)
        options = loaded.options(top_n, exclude_seen, stages)
        schema = loaded.schema if trial is None else trial.schema
        columns = normalise(requests, schema.with_kinds() if options.seen_kinds else schema)
        n = columns.n_requests
        wanted = read_wanted(
            at_most, at_least, diversity, calibrate, popularity_dampening, n, top_n, "request"
        )
        check_wanted(wanted, explore)
        filters = read_filters(where, exclude, allow, n, loaded.state, wanted)
        if check_unknown(unknown):
            loaded.asked(columns).check_known()
        if trial is not None:
            return trial.recommend(loaded, columns, keys, filters, options, stages, loop)
        check_keys(keys, n)
        return pipeline.recommend(loaded, columns, filters, options, loop)

    def upsert_items(self, items: Any) -> Upserted:
        """Add items, or change known ones, without retraining; later calls see all of it.

        Parameters
        ----------
        items : dict of columns, list of dicts, pandas or polars DataFrame, or pyarrow Table
            `item_id` and any columns of the item table: features, title, attributes for `where`.
            A column that is not given (in a list of dicts: by an item's dict) is null for a new
            item and stays as it is for a known one; None makes it null.

        Returns
        -------
        Upserted
            How many were added, updated, and added without any known content.

        Raises
        ------
        TypeError, DataError
            Names the column and what was expected; nothing has changed then.

        Notes
        -----
        A new item gets its vector from its content, by the item encoder. It may be recommended at
        once; in a history it is excluded, but the user encoder learns nothing from it until the
        next training. Calls under way finish on the items they began with. An update copies a few
        bytes for each item of the catalogue.
        """
        return self._switch.change_items(lambda loaded: loaded.upsert_items(items))

    def remove_items(self, item_ids: Any) -> int:
        """Remove items; unknown ids are ignored, and later calls see all of it.

        Parameters
        ----------
        item_ids : array-like of shape (n,), or a set, ids

        Returns
        -------
        int
            How many items were removed.

        Raises
        ------
        TypeError, DataError
            One id in place of a list, or the ids are not of the bundle's type.

        Notes
        -----
        A removed item still counts in histories: the encoder knows it.
        """
        return self._switch.change_items(lambda loaded: loaded.remove_items(item_ids))

    def encode_users(self, requests: Any) -> Array:
        """Return the user embedding of every request.

        Parameters
        ----------
        requests : as for `recommend`

        Returns
        -------
        ndarray of shape (n_requests, dim), float32
            A request with nothing known gets the encoder's answer to an empty history.
        """
        return self._switch.now().encode_users(requests)

    def encode_items(self, table: Any) -> Array:
        """Return embeddings of items from their raw columns; new items get theirs from content.

        Parameters
        ----------
        table : dict of columns, list of dicts, pandas or polars DataFrame, or pyarrow Table
            `item_id` and the bundle's item features; a column that is absent is missing in every
            row, and an id the encoder does not know is no error.

        Returns
        -------
        ndarray of shape (n_rows, dim), float32
        """
        return self._switch.now().encode_items(table)

    def score(self, requests: Any, item_ids: Any, stages: Literal[1, 2] | None = None) -> Array:
        """Score given items for every request, by the second stage if the bundle has one.

        Parameters
        ----------
        requests : as for `recommend`
        item_ids : array-like of shape (n_requests, n), ids
            Candidates of each request, such as `Recommendations.item_ids`; missing places (−1 or
            "") score −inf.
        stages : {1, 2}, optional
            1: the similarity of the user's and the item's embedding, under the bundle's metric. 2:
            the score of the second stage. Default: `default_stages`.

        Returns
        -------
        ndarray of shape (n_requests, n), float32
            Also of a request of which nothing is known: by the encoder's answer to an empty
            history. (`recommend` gives such requests the popular items instead.)

        Raises
        ------
        ShortlistError
            `stages` is 2 and the bundle has no second stage.
        ValueError
            Shapes differ, or an item id is unknown; or `stages` is not 1, 2 or None.
        """
        return self._switch.now().score(requests, item_ids, stages)

    def swap(self, path: str | os.PathLike[str], *, verify: bool = True) -> None:
        """Put another bundle in the place of this one, under load.

        The new bundle is loaded, verified and warmed while the present one goes on answering.
        Then calls that begin get the new one, those under way finish on the old one, and every
        call is answered by one of them as a whole. The old one's memory goes when its last call
        is done, for which `swap` waits up to a second. To go back, swap to the old path.

        Parameters
        ----------
        path : str or path
            Bundle: a folder or a zip. Its ids must be of the types of the present one's.
        verify : bool
            Compare every file's sha256 with the manifest first.

        Raises
        ------
        BundleError
            The new bundle cannot be loaded, or its ids are of another type. The present one goes
            on as if nothing had been asked.
        ShortlistError
            The engine is closed, or was closed meanwhile; or a trial is running.

        Notes
        -----
        Items that `upsert_items` and `remove_items` changed are those of the old bundle: change
        them again where the new one does not have them yet.
        """
        self._switch.swap(path, verify)

    def start_trial(
        self,
        path: str | os.PathLike[str],
        share: float = 0.1,
        *,
        shadow: bool = False,
        salt: str = "",
        verify: bool = True,
    ) -> None:
        """Run another bundle beside this one: on a share of the traffic, or in its shadow.

        The candidate is loaded, verified and warmed outside the request path. Then `recommend`
        gives it the requests that fall to it, by a hash of the user id or of `keys`: the same ones
        in every process, and with a larger share those of a smaller one and more. The answer's
        `version` says who answered. Requests without either stay with the present bundle unless
        `share` is 1. `report` has the counts; `end_trial` ends it.

        Parameters
        ----------
        path : str or path
            Bundle; its ids must be of the types of the present one's. Its columns may be others:
            requests may hold those of both.
        share : float
            Part of the keys that falls to the candidate, above 0, at most 1.
        shadow : bool
            The present bundle answers everything. The candidate answers its share once more, on a
            thread of its own behind the caller's back; only the counts tell of it. Requests that
            come faster than it can follow are dropped and counted.
        salt : str
            Another salt draws other keys.
        verify : bool
            Compare every file's sha256 with the manifest first.

        Raises
        ------
        TypeError, ValueError
            An argument has the wrong type or is out of range.
        BundleError
            The candidate cannot be loaded, or takes ids or columns of another type.
        ShortlistError
            A trial is running already, or the engine is closed.

        Notes
        -----
        What goes wrong in the candidate never reaches a caller: the present bundle answers, and the
        error is counted. `upsert_items` and `remove_items` change both; `encode_users`, `score` and
        the engine's properties are the present bundle's.
        """
        self._switch.start_trial(path, share, shadow, salt, verify)

    def end_trial(self, *, promote: bool = False) -> TrialReport:
        """End the trial; with `promote` its candidate takes the place of the present bundle.

        Returns
        -------
        dict
            The trial's last counts, as `report` has them.

        Raises
        ------
        ShortlistError
            No trial is running.
        """
        return self._switch.end_trial(promote)

    def report(self) -> EngineReport:
        """Say what really runs: provider of each opened graph, threads, SIMD level, sizes."""
        loaded, trial = self._switch.now(), self._switch.trial
        index = loaded.index
        files = memory_of(loaded.bundle.manifest, {})
        return {
            "bundle": str(loaded.bundle.path),
            "version": loaded.number,
            "trial": None if trial is None else trial.report(),
            "device_asked": self._settings.device,
            **loaded.report(),
            "n_threads": self._settings.n_threads,
            "n_items": len(index),
            "n_users": loaded.bundle.manifest.n_users,
            "dim": index.dim,
            "metric": index.metric,
            "storage": index.storage,
            "recall": index.recall,
            "memory": {
                "items": index.memory().to_dict(),
                "users": files["users"],
                "graphs": files["graphs"],
            },
        }

    def close(self) -> None:
        """Let go of graphs and tables; a closed engine answers nothing any more."""
        self._switch.close()

    def __enter__(self) -> Self:
        """Return the engine itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the engine."""
        self.close()

    def __repr__(self) -> str:
        """Name the bundle, its size and where it runs."""
        m = self.bundle.manifest
        state = "closed" if self._switch.is_closed else f"{self._settings.n_threads} thread(s)"
        return f"Engine({self.bundle.name}: {m.n_items:,} items, dim {m.dim}, {state})"
