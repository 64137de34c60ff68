"""What `Engine.recommend` does beyond answering: join the feedback log, explore, record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from shortlist._columns import Array
from shortlist._feedback_acts import Dislikes, check_types, with_acts
from shortlist._recommend import Answer
from shortlist.errors import DataError
from shortlist.exploration import Exploration
from shortlist.feedback import FeedbackLog, seconds_of

if TYPE_CHECKING:
    from shortlist._version import Version
    from shortlist.recommendations import Recommendations
    from shortlist.requests import Columns


def given_requests(requests: Any, user_ids: Any) -> Any:
    """Return the requests: `requests`, or known users by their ids alone."""
    if (requests is None) == (user_ids is None):
        got = "neither" if requests is None else "both"
        raise TypeError(
            f"requests, user_ids: got {got}, expected one of them; ids beside other columns are a "
            "column 'user_id' of requests"
        )
    return {"user_id": user_ids} if requests is None else requests


def check_options(feedback: Any, explore: Any, record: Any, now: Any) -> int:
    """Check them; return the time of the requests in seconds since 1970."""
    if feedback is not None and not isinstance(feedback, FeedbackLog):
        raise TypeError(
            f"feedback: got {type(feedback).__name__}, expected a FeedbackLog; open the file with "
            "shortlist.FeedbackLog(path)"
        )
    if explore is not None and not isinstance(explore, Exploration):
        raise TypeError(
            f"explore: got {type(explore).__name__}, expected shortlist.Epsilon or shortlist.Softmax"
        )
    if not isinstance(record, (bool, np.bool_)):
        raise TypeError(f"record: got {record!r}, expected True or False")
    if record and feedback is None:
        raise TypeError("record: got True without a log, expected feedback=FeedbackLog(path)")
    return int(time.time()) if now is None else seconds_of(now, "now")


def with_feedback(columns: Columns, feedback: FeedbackLog, version: Version, now: int) -> Columns:
    """Join what the log says about the users to their requests."""
    check_types(feedback.id_types, version.user_id_dtype, version.item_id_dtype)
    if columns.ids is None:
        return columns
    acts = feedback.acts(columns.ids)
    if not any(acts):
        return columns
    recommender = version.recommender
    return with_acts(
        columns,
        acts,
        recommender.users,
        Dislikes.of_manifest(version.bundle.manifest),
        version.item_id_dtype,
        now,
        recommender.schema.event_columns,
    )


def explored(whole: Answer, explore: Exploration, top_n: int) -> tuple[Answer, Array]:
    """Draw the answers from their candidates; also return the propensities (n, top_n)."""
    places, propensities = explore.choose(whole.scores, top_n)
    n, m = whole.rows.shape
    rows = np.concatenate([whole.rows, np.full((n, 1), -1)], axis=1)  # place −1: missing
    scores = np.concatenate([whole.scores, np.full((n, 1), -np.inf, np.float32)], axis=1)
    places = np.where(places < 0, m, places)
    drawn = Answer(
        np.take_along_axis(scores, places, axis=1),
        np.take_along_axis(rows, places, axis=1),
        np.minimum(whole.counts, top_n),
        whole.source,
        whole.stages,
    )
    return drawn, propensities


def recorded(
    feedback: FeedbackLog, columns: Columns, shown: Recommendations, now: int, version: Version
) -> None:
    """Write what was shown to the log; every request needs a user id."""
    missing = "" if version.user_id_dtype == "string" else np.iinfo(np.int64).min
    if columns.ids is None or (columns.ids == missing).any():
        raise DataError(
            "record: a request has no user_id, expected one in every request whose answer is "
            "recorded"
        )
    feedback.append_impressions(
        columns.ids.tolist(), shown, timestamp=now, bundle=version.bundle.version
    )
