"""What a call of the engine wants of every request."""

from __future__ import annotations

from typing import Any, NamedTuple

from shortlist.bundle.records import RerankerRecord
from shortlist.errors import ShortlistError


class RecommendOptions(NamedTuple):
    """Items a request, whether seen ones may come back, and how many stages."""

    top_n: int
    exclude_seen: bool
    stages: int


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
