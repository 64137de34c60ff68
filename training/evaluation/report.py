"""The result of an evaluation as a Markdown page and a picture."""

from __future__ import annotations

from pathlib import Path

from shortlist.training.evaluation.evaluate import EvaluationReport
from shortlist.training.evaluation.plots import plot_metrics
from shortlist.training.evaluation.published import published_table
from shortlist.training.evaluation.segments import format_segments, format_table

__all__ = ["evaluation_markdown", "write_report"]


def evaluation_markdown(report: EvaluationReport, *, plot: str = "") -> str:
    """Write an evaluation as a Markdown page.

    Parameters
    ----------
    report : EvaluationReport
    plot : str
        Path of the picture beside the page, if there is one.
    """
    warnings = "".join(f"\nWarning: {warning}.\n" for warning in report.warnings)
    intervals: dict[str, dict[str, float]] = {"95 % from": {}, "to": {}}
    for name, (low, high) in report.intervals.items():
        intervals["95 % from"][name], intervals["to"][name] = low, high
    bundle = next(iter(report.metrics))
    table = {bundle: report.metrics[bundle], **intervals, **report.metrics}
    parts = [
        f"# {report.dataset}, {report.protocol}",
        f"{report.n_users:,} {report.on} users, all {report.n_items:,} items ranked, "
        f"seen items excluded; 95 % bootstrap intervals of {bundle}.",
        format_table(table),
        *([f"![NDCG of each ranker]({plot})"] if plot else []),
        *_published(report),
        f"{bundle}, by segments of users:",
        format_segments(report.segments),
    ]
    return "\n\n".join(parts) + f"\n{warnings}"


def write_report(report: EvaluationReport, path: Path) -> None:
    """Write the page of `evaluation_markdown` and its picture, NAME.md and NAME.png."""
    picture = path.with_suffix(".png")
    plot_metrics(report, picture)
    path.write_text(evaluation_markdown(report, plot=picture.name), encoding="utf-8")


def _published(report: EvaluationReport) -> list[str]:
    table = published_table(report)
    return ["Published on this set and protocol:", table] if table else []
