"""What `Engine.recommend` does, in the order in which it does it."""

from typing import Any

from shortlist._columns.requests import Columns
from shortlist._serving.loaded_bundle import LoadedBundle
from shortlist._serving.loop import FeedbackLoop, check_users
from shortlist._serving.options import RecommendOptions
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
    where: Any,
    options: RecommendOptions,
    loop: FeedbackLoop | None,
) -> Recommendations:
    """Answer checked requests: join the feedback log, answer, draw, record.

    `loop` is None where a call wants answers alone.
    """
    if loop is None:
        return loaded.answer(columns, where, options)
    if loop.record:
        check_users(columns, loaded)
    joined = loop.join(columns, loaded)
    answer = loaded.answer(joined, where, loop.widen(options, loaded))
    shown = loop.draw(answer, options.top_n)
    loop.write(loaded, columns, where, options, shown)
    return shown
