"""What a call does beyond answering: join the feedback log, draw, record."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shortlist import _checks
from shortlist._columns.reading import Array
from shortlist._serving.asked import has_user
from shortlist.errors import DataError
from shortlist.exploration import Exploration
from shortlist.feedback import FeedbackLog, seconds_of
from shortlist.feedback.acts import Acts, check_types, with_acts
from shortlist.recommendations import Recommendations

if TYPE_CHECKING:
    from shortlist._catalogue.filters import Filters
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

    def acts(self, columns: Columns, loaded: LoadedBundle) -> list[Acts | None] | None:
        """Read what the log says about the users; None without a log."""
        if self.feedback is None:
            return None
        check_types(self.feedback.id_types, loaded.user_id_dtype, loaded.item_id_dtype)
        if columns.ids is None:
            return [None] * columns.n_requests
        return self.feedback.acts(columns.ids)

    def join(
        self, columns: Columns, acts: list[Acts | None] | None, loaded: LoadedBundle
    ) -> Columns:
        """Join it to their requests."""
        if acts is None or not any(acts):
            return columns
        times = np.full(columns.n_requests, self.now)
        return with_acts(columns, acts, loaded, loaded.dislikes, times)

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
        filters: Filters,
        options: RecommendOptions,
        shown: Recommendations,
    ) -> None:
        """Record what is shown, if the call wants it."""
        if self.feedback is None or not self.record:
            return
        can_repeat = repeatable(columns, filters, options, loaded.schema)
        assert columns.ids is not None  # `check_users`
        self.feedback.append_impressions(
            columns.ids.tolist(),
            _with_known(shown, can_repeat),
            timestamp=self.now,
            bundle=loaded.bundle.version,
        )


NO_LOOP = FeedbackLoop(None, None, False, 0)


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


def repeatable(
    columns: Columns, filters: Filters, options: RecommendOptions, schema: RequestSchema
) -> Array:
    """Mark the requests (n,) that a log can ask again: a user id and nothing else.

    It keeps no `history`, features or filters of a request, and nothing but `exclude_seen=True`.
    """
    marked = filters.are_free(columns.n_requests) & options.exclude_seen
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


def check_users(columns: Columns) -> None:
    """Refuse to record answers to nobody: every request needs a user id."""
    if columns.ids is None or not has_user(columns.ids).all():
        raise DataError(
            "record: a request has no user_id, expected one in every request whose answer is "
            "recorded"
        )
