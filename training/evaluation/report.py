"""The result of an evaluation as a Markdown page and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shortlist.training.evaluation.plots import plot_metrics
from shortlist.training.evaluation.published import published_table
from shortlist.training.evaluation.segments import Segment, format_segments, format_table

__all__ = ["evaluation_markdown", "write_report"]


def evaluation_markdown(result: Mapping[str, Any], *, plot: str = "") -> str:
    """Write the result of `workflow.evaluate_bundle` as a Markdown page.

    Parameters
    ----------
    result : mapping
    plot : str
        Path of the picture beside the page, if there is one.
    """
    warnings = "".join(f"\nWarning: {warning}.\n" for warning in result["warnings"])
    intervals: dict[str, dict[str, float]] = {"95 % from": {}, "to": {}}
    for name, (low, high) in result["intervals"].items():
        intervals["95 % from"][name], intervals["to"][name] = low, high
    bundle = next(iter(result["metrics"]))
    table = {bundle: result["metrics"][bundle], **intervals, **result["metrics"]}
    segments = [Segment(**segment) for segment in result["segments"]]
    parts = [
        f"# {result['dataset']}, {result['protocol']}",
        f"{result['n_users']:,} {result['on']} users, all {result['n_items']:,} items ranked, "
        f"seen items excluded; 95 % bootstrap intervals of {bundle}.",
        format_table(table),
        *([f"![NDCG of each ranker]({plot})"] if plot else []),
        *_published(result),
        f"{bundle}, by segments of users:",
        format_segments(segments),
    ]
    return "\n\n".join(parts) + f"\n{warnings}"


def write_report(result: Mapping[str, Any], path: Path) -> None:
    """Write the page of `evaluation_markdown` and its picture, NAME.md and NAME.png."""
    picture = path.with_suffix(".png")
    plot_metrics(result, picture)
    path.write_text(evaluation_markdown(result, plot=picture.name), encoding="utf-8")


def _published(result: Mapping[str, Any]) -> list[str]:
    table = published_table(result)
    return ["Published on this set and protocol:", table] if table else []
