"""What an engine is asked beyond its lists: why an item is there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from shortlist import _checks
from shortlist._catalogue.filters import read_filters
from shortlist._columns.requests import normalise
from shortlist._serving import explaining, pipeline
from shortlist._serving.options import check_unknown
from shortlist._serving.seen import seen_items
from shortlist._serving.switch import Switch
from shortlist.explanations import Explanations


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
        closes), or with the feature missing. What is measured is the margin, the score that
        `recommend` gives minus that of the first item outside the list, and a reason's `drop` is
        how much of it is lost. The second reason is found without the first one, and so on.

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
            For every reason after an item's first, try everything again. By default only the 8
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
