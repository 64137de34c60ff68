"""What an engine is asked beyond its lists: why, what is alike, what several people would like."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from shortlist import _checks
from shortlist._catalogue.filters import read_filters
from shortlist._columns.requests import normalise
from shortlist._serving import explaining, groups, pipeline
from shortlist._serving import similar as likeness
from shortlist._serving.options import check_unknown
from shortlist._serving.seen import seen_items
from shortlist._serving.sessions import Session, Sessions, new_session, new_store
from shortlist._serving.switch import Switch
from shortlist.explanations import Explanations
from shortlist.recommendations import Recommendations


class Questions:
    """Methods of `Engine` that ask a loaded bundle more than `recommend` does.

    While a trial runs they are answered by the present bundle.
    """

    _switch: Switch

    def explain(
        self,
        requests: Any = None,
        top_n: int = 10,
        n_reasons: int = 3,
        stages: Literal[1, 2] | None = None,
        exclude_seen: bool | Collection[str] = True,
        where: Any = None,
        *,
        user_ids: Any = None,
        exclude: Any = None,
        allow: Any = None,
        unknown: Literal["ignore", "error"] = "ignore",
        explain_by: str | None = None,
        thorough: bool = False,
    ) -> Explanations:
        """Recommend the top-N items for every request, and say why each is there.

        A reason is an item of the history, or a feature, without which the item would do worse.
        Each is found by asking again: the encoder runs on the history without that item (the gap
        closes), or with the feature missing. What is measured is the margin: the score that
        `recommend` gives, minus the `top_n`-th best of the other items, which is above 0 as long as
        the item is in the list. A reason's `drop` is how much of it is lost. The second reason is
        found without the first one, and so on.

        Parameters
        ----------
        requests, top_n, stages, exclude_seen, where, user_ids, exclude, allow, unknown
            As for `recommend`. Items that are left out of a history stay excluded as seen.
        n_reasons : int
            Reasons of each item, at most 100. An item has fewer where nothing more makes its margin
            smaller.
        explain_by : str, optional
            A column of the item table with one value an item, such as a series or a brand. Items of
            one value are left out together and are one reason.
        thorough : bool
            For every reason after an item's first, try everything again. By default only the 4
            pieces of the largest drops are tried again, which takes a fraction of the time.

        Returns
        -------
        Explanations
            Its `answer` is what `recommend` gives. An answer of popular items has no reasons, and
            says so.

        Raises
        ------
        TypeError, ValueError, DataError, ShortlistError
            As `recommend`; `n_reasons` is not from 1 to 100; `explain_by` is no column of the item
            table, or one with several values an item.

        Notes
        -----
        `Reason.leaves_list` is what a search found on the request without the reasons so far. A
        stored history is explained as one of the request's own: its ages stay as they were.
        """
        loaded = self._switch.now()
        top_n, n_reasons = _checks.positive_int(top_n, "top_n"), _checks.reason_count(n_reasons)
        thorough = _checks.flag(thorough, "thorough")
        requests = pipeline.given_requests(requests, user_ids)
        options = loaded.options(top_n, exclude_seen, stages)
        schema = loaded.schema.with_kinds() if options.seen_kinds else loaded.schema
        columns = normalise(requests, schema)
        filters = read_filters(where, exclude, allow, columns.n_requests, loaded.state)
        if check_unknown(unknown):
            loaded.asked(columns).check_known()
        if options.seen_kinds:
            seen = seen_items(columns, None, None, loaded, options.seen_kinds)
            filters = filters._replace(seen=seen)
        _checks.check_answer_size(columns.n_requests, top_n, loaded.state.view.n_rows)
        return explaining.explain(
            loaded, columns, filters, options, n_reasons, explain_by, thorough=thorough
        )

    def similar(
        self,
        item_ids: Any,
        top_n: int = 10,
        where: Any = None,
        exclude: Any = None,
        *,
        allow: Any = None,
        by: Literal["vectors", "followers", "mix"] = "vectors",
    ) -> Recommendations:
        """Find the items most like each of some items.

        Parameters
        ----------
        item_ids : array-like of shape (n_items,), ids
            Each is answered like a request; it is never in its own list.
        top_n, where, exclude, allow
            As for `recommend`.
        by : {"vectors", "followers", "mix"}
            "vectors": the nearest item vectors, under the bundle's metric. "followers": what came
            after the item in histories of the training, at most 20 items; the score is how often,
            as a part of the most frequent one. "mix": half of each.

        Returns
        -------
        Recommendations
            Exact, ties by the lower item row; `source` is "item".

        Raises
        ------
        TypeError, DataError
            `item_ids` are no list of the bundle's ids, or one is no item of the catalogue now; an
            item has no vector, as nothing is known of its content, and `by` is not "followers";
            `where` does not fit the item table.
        ValueError
            `top_n` is below 1; `by` is none of those.
        ShortlistError
            The bundle was exported without the table of followers.
        """
        loaded = self._switch.now()
        state = loaded.state  # for the whole call: rows are those of one moment
        top_n, by_way = _checks.positive_int(top_n, "top_n"), likeness.check_way(by)
        rows = likeness.read_item_ids(item_ids, loaded, state)
        filters = read_filters(where, exclude, allow, len(rows), state)
        n_threads = self._switch.n_threads
        return likeness.similar(loaded, state, rows, top_n, filters, by_way, n_threads)

    def recommend_group(
        self,
        requests: Any = None,
        top_n: int = 10,
        how: Literal["mean", "least_misery"] = "mean",
        exclude_seen: bool = True,
        where: Any = None,
        *,
        user_ids: Any = None,
        exclude: Any = None,
        allow: Any = None,
    ) -> Recommendations:
        """Recommend one list to several people: each request is one of them.

        Parameters
        ----------
        requests, top_n, where, user_ids, exclude, allow
            As for `recommend`. Filters of single requests all count: an item must be allowed by
            each.
        how : {"mean", "least_misery"}
            Of all members' scores for an item, by one stage: their mean, or the least of them.
        exclude_seen : bool
            Leave out what any of them has seen.

        Returns
        -------
        Recommendations
            Of one request: the exact best of all items, ties by the lower row; `source` is the most
            personal one of the members. Members of whom nothing is known do not count; where
            nothing is known of anyone, the answer is popular items.

        Raises
        ------
        TypeError, ValueError, DataError
            As `recommend`; there is no request; `how` is none of those.
        """
        loaded = self._switch.now()
        top_n, way = _checks.positive_int(top_n, "top_n"), groups.check_how(how)
        seen = _checks.flag(exclude_seen, "exclude_seen")
        columns = normalise(pipeline.given_requests(requests, user_ids), loaded.schema)
        filters = read_filters(where, exclude, allow, columns.n_requests, loaded.state)
        return groups.recommend_group(loaded, columns, filters, top_n, way, seen)

    def session(self, request: dict[str, Any] | None = None) -> Session:
        """Begin a session: lists that know of each event at once.

        Parameters
        ----------
        request : dict, optional
            One request, as for `recommend`: what is known at first. A known user begins with the
            stored history.

        Returns
        -------
        Session
            `append` what the user does, `recommend` at any time. A `gru` bundle keeps a state, so
            that an event costs one step however long the history is; others compute the history
            again. `Session.report` says which.

        Raises
        ------
        TypeError, DataError
            The request is not as described.
        """
        return new_session(self._switch, request)

    def sessions(self, max_bytes: int = 1 << 30) -> Sessions:
        """Make a store of sessions by key, with a cap on their memory.

        Parameters
        ----------
        max_bytes : int
            Of all sessions; those that were not asked for longest go first.

        Raises
        ------
        TypeError, ValueError, ShortlistError
            `max_bytes` is no number, or leaves no room for one session.
        """
        return new_store(self._switch, max_bytes)
