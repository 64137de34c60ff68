"""What a call does beyond answering: join the feedback log, draw, record."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shortlist import _checks
from shortlist._columns.reading import Array
from shortlist.errors import DataError
from shortlist.exploration import Exploration
from shortlist.feedback import FeedbackLog, seconds_of
from shortlist.feedback.acts import check_types, with_acts
from shortlist.recommendations import Recommendations

if TYPE_CHECKING:
    from shortlist._columns.requests import Columns, RequestSchema
    from shortlist._serving.loaded_bundle import LoadedBundle
    from shortlist._serving.options import RecommendOptions


class FeedbackLoop(NamedTuple):
    """What a call wants beyond answers.

    Attributes
    ----------
    feedback : FeedbackLog or None
    explore : Exploration or None
    record : bool
    now : int
        Seconds since 1970.
    """

    feedback: FeedbackLog | None
    explore: Exploration | None
    record: bool
    now: int

    def join(self, columns: Columns, loaded: LoadedBundle) -> Columns:
        """Join what the log says about the users to their requests."""
        if self.feedback is None:
            return columns
        return with_feedback(columns, self.feedback, loaded, self.now)

    def widen(self, options: RecommendOptions, loaded: LoadedBundle) -> RecommendOptions:
        """Ask for all the candidates that `draw` draws from."""
        if self.explore is None:
            return options
        return options._replace(top_n=n_candidates(self.explore, options, loaded))

    def draw(self, answer: Recommendations, top_n: int) -> Recommendations:
        """Draw each answer from its candidates, where the call explores."""
        return answer if self.explore is None else drawn(answer, self.explore, top_n)

    def write(
        self,
        loaded: LoadedBundle,
        columns: Columns,
        where: Any,
        options: RecommendOptions,
        shown: Recommendations,
    ) -> None:
        """Record what is shown, if the call wants it."""
        if self.feedback is None or not self.record:
            return
        can_repeat = repeatable(columns, where, options, loaded.schema)
        assert columns.ids is not None  # `check_users`
        self.feedback.append_impressions(
            columns.ids.tolist(),
            _with_known(shown, can_repeat),
            timestamp=self.now,
            bundle=loaded.bundle.version,
        )


def feedback_loop(feedback: Any, explore: Any, record: Any, now: Any) -> FeedbackLoop | None:
    """Check the options of a call; None where it wants answers alone."""
    if feedback is None and explore is None and record is False and now is None:  # the usual case
        return None
    if feedback is not None and not isinstance(feedback, FeedbackLog):
        raise TypeError(
            f"feedback: got {type(feedback).__name__}, expected a FeedbackLog; open the file with "
            "shortlist.FeedbackLog(path)"
        )
    if explore is not None and not isinstance(explore, Exploration):
        raise TypeError(
            f"explore: got {type(explore).__name__}, expected shortlist.Epsilon or Softmax"
        )
    record = _checks.flag(record, "record")
    if record and feedback is None:
        raise TypeError("record: got True without a log, expected feedback=FeedbackLog(path)")
    seconds = int(time.time()) if now is None else seconds_of(now, "now")
    if feedback is None and explore is None:
        return None
    return FeedbackLoop(feedback, explore, record, seconds)


def with_feedback(
    columns: Columns, feedback: FeedbackLog, loaded: LoadedBundle, now: int
) -> Columns:
    """Join what the log says about the users to their requests."""
    check_types(feedback.id_types, loaded.user_id_dtype, loaded.item_id_dtype)
    if columns.ids is None:
        return columns
    acts = feedback.acts(columns.ids)
    if not any(acts):
        return columns
    return with_acts(columns, acts, loaded, loaded.dislikes, np.full(columns.n_requests, now))


def repeatable(
    columns: Columns, where: Any, options: RecommendOptions, schema: RequestSchema
) -> Array:
    """Mark the requests (n,) that a log can ask again: a user id and nothing else.

    It keeps no `history`, features, `where` or `exclude_seen=False` of a request.
    """
    n = columns.n_requests
    wheres = where if isinstance(where, (list, tuple)) else [where] * n
    marked = np.array([options.exclude_seen and one is None for one in wheres], dtype=np.bool_)
    if columns.histories is not None:
        marked &= columns.histories.lengths == 0
    for name, values in columns.features.items():
        if name in schema.features:  # else it is another bundle's, of a trial
            marked &= ~schema.features[name].is_given(values)
    return marked


def _with_known(shown: Recommendations, can_repeat: Array) -> Recommendations:
    """Take the propensities from answers that cannot be asked again; NaN is none in the log."""
    if shown.propensities is None or can_repeat.all():
        return shown
    return replace(shown, propensities=np.where(can_repeat[:, None], shown.propensities, np.nan))


def n_candidates(explore: Exploration, options: RecommendOptions, loaded: LoadedBundle) -> int:
    """Say how many candidates to draw from: no more than the second stage puts into order."""
    most = loaded.state.view.n_rows
    if loaded.has_reranker and options.stages == 2:
        most = loaded.n_candidates
    return max(options.top_n, min(explore.n_candidates, most))


def drawn(answer: Recommendations, explore: Exploration, top_n: int) -> Recommendations:
    """Draw each answer from its candidates."""
    slots, propensities = explore.choose(answer.scores, top_n)

    def take(values: Array, missing: object) -> Array:
        taken: Array = np.take_along_axis(values, slots, axis=1)  # slot −1 is replaced below
        taken[slots < 0] = missing
        return taken

    return replace(
        answer,
        item_ids=take(answer.item_ids, "" if answer.item_ids.dtype.kind == "O" else -1),
        scores=take(answer.scores, -np.inf),
        counts=np.minimum(answer.counts, top_n),
        indices=take(answer.indices, -1),
        propensities=propensities,
    )


def check_users(columns: Columns, loaded: LoadedBundle) -> None:
    """Refuse to record answers to nobody: every request needs a user id."""
    missing = "" if loaded.user_id_dtype == "string" else np.iinfo(np.int64).min
    if columns.ids is None or (columns.ids == missing).any():
        raise DataError(
            "record: a request has no user_id, expected one in every request whose answer is "
            "recorded"
        )
