"""What `Engine.recommend` does, in the order in which it does it."""

from typing import Any

from shortlist._catalogue.filters import Filters
from shortlist._columns.requests import Columns
from shortlist._serving.loaded_bundle import LoadedBundle
from shortlist._serving.loop import NO_LOOP, FeedbackLoop, check_users
from shortlist._serving.options import RecommendOptions
from shortlist._serving.seen import seen_items
from shortlist.recommendations import Recommendations


def given_requests(requests: Any, user_ids: Any) -> Any:
    """Return the requests: `requests`, or known users by their ids alone."""
    if (requests is None) == (user_ids is None):
        got = "neither" if requests is None else "both"
        raise TypeError(
            f"requests, user_ids: got {got}, expected one of them; ids beside other columns are a "
            "column 'user_id' of requests"
        )
    return {"user_id": user_ids} if requests is None else requests


def recommend(
    loaded: LoadedBundle,
    columns: Columns,
    filters: Filters,
    options: RecommendOptions,
    loop: FeedbackLoop | None,
) -> Recommendations:
    """Answer checked requests: join the feedback log, answer, draw, record.

    `loop` is None where a call wants answers alone.
    """
    if loop is None and not options.seen_kinds:  # the usual case
        return loaded.answer(columns, filters, options)
    loop = loop or NO_LOOP
    if loop.record:
        check_users(columns)
    acts = loop.acts(columns, loaded)
    joined, left = loop.join(columns, acts, loaded), filters
    if options.seen_kinds:
        seen = seen_items(columns, acts, joined.skipped, loaded, options.seen_kinds)
        left = filters._replace(seen=seen)
    answer = loaded.answer(joined, left, loop.widen(options, loaded), asked=columns)
    shown = loop.draw(answer, options.top_n)
    loop.write(loaded, columns, filters, options, shown)
    return shown
