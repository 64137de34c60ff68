"""What a call of the engine wants of every request."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from shortlist._columns.variety import Wanted
from shortlist.bundle.records import RerankerRecord
from shortlist.errors import ShortlistError
from shortlist.recommendations import Unmet


class RecommendOptions(NamedTuple):
    """What a call wants of every request.

    Attributes
    ----------
    top_n : int
    exclude_seen : bool
        Whether all of a history stays out.
    stages : int
    seen_kinds : frozenset of str
        Kinds of events whose items stay out, where not all do.
    """

    top_n: int
    exclude_seen: bool
    stages: int
    seen_kinds: frozenset[str] = frozenset()


def read_exclude_seen(exclude_seen: Any) -> tuple[bool, frozenset[str]]:
    """Return whether all of a history stays out, or the kinds whose items do."""
    if exclude_seen is True or exclude_seen is False:  # the usual case
        return exclude_seen, frozenset()
    is_some = isinstance(exclude_seen, (list, tuple, set, frozenset)) and len(exclude_seen) > 0
    if is_some and all(isinstance(kind, str) for kind in exclude_seen):
        return False, frozenset(exclude_seen)
    if isinstance(exclude_seen, np.bool_):
        return bool(exclude_seen), frozenset()
    fix = f"; for one kind: ({exclude_seen!r:.60},)" if isinstance(exclude_seen, str) else ""
    raise TypeError(
        f"exclude_seen: got {exclude_seen!r:.60}, expected True, False, or kinds of events such "
        f"as ('purchase',){fix}"
    )


def check_wanted(wanted: Wanted | None, explore: Any) -> None:
    """Raise TypeError where a call explores: what is drawn would not keep to what it wants."""
    if wanted is None:
        return
    if explore is not None:
        raise TypeError(
            f"explore: got {type(explore).__name__} beside at_most, at_least, diversity, calibrate "
            "or popularity_dampening, expected one of them: a list that is drawn does not keep to "
            "them"
        )


def unmet_of(wanted: Wanted | None, missing: Any) -> Unmet | None:
    """Return how many items the lists (n_requests, n_quotas) lack, by quota."""
    if wanted is None or not wanted.at_least.names:
        return None
    return Unmet(wanted.at_least.names, missing)


def check_unknown(unknown: Any) -> bool:
    """Return whether ids that the bundle does not know are an error."""
    if not isinstance(unknown, str) or unknown not in ("ignore", "error"):
        raise ValueError(f"unknown: got {unknown!r}, expected 'ignore' or 'error'")
    return bool(unknown == "error")


def check_stages(stages: Any, has_reranker: bool, section: RerankerRecord | None) -> int:
    """Return how many stages a call runs: 1 or 2; None asks for the bundle's best.

    Parameters
    ----------
    stages : {1, 2} or None
    has_reranker : bool
    section : RerankerRecord or None
        The manifest's `second_stage`, for the message.
    """
    if stages is None:
        return 2 if has_reranker else 1
    if isinstance(stages, bool) or stages not in (1, 2):
        raise ValueError(f"stages: got {stages!r}, expected 1, 2, or None for the bundle's default")
    if stages == 2 and not has_reranker:
        raise ShortlistError(
            f"stages: got 2, but this bundle has no second stage: {_why_none(section)}"
        )
    return int(stages)


def _why_none(section: RerankerRecord | None) -> str:
    if section is None:
        return "it was trained without one; set enabled = true under [scorer]"
    measured = section.measured
    return (
        "it did not help on validation, so it was left out (NDCG@10 "
        f"{measured['ndcg_at_10_with']:.4f} with it, {measured['ndcg_at_10_without']:.4f} without)"
    )
